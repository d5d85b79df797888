from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cosmos_posttrain import film
from cosmos_tokenizer import InputError


def write_film(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *frames[0].shape[:2], "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def counting_film(path: Path, frames: int) -> None:
    """Frame n is grey of level 4n, left half, and 255 - 4n, right half."""
    pictures = [np.full((64, 96, 3), 4 * n, np.uint8) for n in range(frames)]
    for n, picture in enumerate(pictures):
        picture[:, 48:] = 255 - 4 * n
    write_film(path, pictures)


def moving_pattern(frames: int, seed: int) -> np.ndarray:
    strip = np.random.default_rng(seed).integers(0, 256, (36, 64 + 5 * frames), dtype=np.uint8)
    return np.stack([strip[:, 5 * t : 5 * t + 64] for t in range(frames)])


def test_a_cut_is_found_between_shots_that_move_fast() -> None:
    grey = np.concatenate([moving_pattern(20, 0) // 2, 128 + moving_pattern(15, 1) // 2])
    assert film.find_cuts(grey) == [20]
    assert film.find_shots(grey) == [film.Shot(start=0, end=20), film.Shot(start=20, end=35)]


def test_black_shots_are_left_out() -> None:
    grey = np.concatenate([np.zeros((10, 36, 64), np.uint8), 100 + moving_pattern(12, 2) // 2])
    assert film.find_shots(grey) == [film.Shot(start=10, end=22)]


def test_planned_crops_stay_in_their_shot_and_frame() -> None:
    scan = film.Scan(width=640, height=300, grey=moving_pattern(120, 3))
    shots = [film.Shot(start=0, end=40), film.Shot(start=40, end=50), film.Shot(start=50, end=120)]
    crops = film.plan_crops(scan, shots, 200, np.random.default_rng(4), frames=17, size=128)
    ends = [crop.start + 16 * crop.stride for crop in crops]
    assert all(c.start >= 0 and end < 40 or c.start >= 50 and end < 120 for c, end in zip(crops, ends, strict=True))
    assert {crop.stride for crop in crops} == {1, 2}
    assert all(128 <= c.side <= 300.001 and c.x + c.side <= 640.001 and c.y + c.side <= 300.001 for c in crops)


def test_a_film_without_a_long_enough_shot_is_refused() -> None:
    scan = film.Scan(width=64, height=64, grey=moving_pattern(10, 5))
    with pytest.raises(InputError, match="17 frames"):
        film.plan_crops(scan, [film.Shot(start=0, end=10)], 1, np.random.default_rng(0), frames=17, size=32)


def test_crops_hold_the_frames_and_the_place_they_name(tmp_path: Path) -> None:
    counting_film(tmp_path / "film.mp4", 40)
    right = film.Crop(start=3, stride=2, x=52.0, y=4.0, side=40.0)
    left = film.Crop(start=20, stride=1, x=2.0, y=20.0, side=36.0)
    read = dict(film.read_crops(tmp_path / "film.mp4", [left, right], frames=5, size=16))
    assert set(read) == {left, right}
    np.testing.assert_allclose(read[right].mean(axis=(1, 2, 3)), 255 - 4 * np.arange(3, 13, 2), atol=4)
    np.testing.assert_allclose(read[left].mean(axis=(1, 2, 3)), 4 * np.arange(20, 25), atol=4)


def test_a_scan_sees_every_frame(tmp_path: Path) -> None:
    counting_film(tmp_path / "film.mp4", 23)
    scan = film.scan(tmp_path / "film.mp4")
    assert (scan.width, scan.height, len(scan.grey)) == (96, 64, 23)


def test_preview_contrast_looks_at_the_crop_alone() -> None:
    grey = np.full((2, 36, 64), 90, np.uint8)
    grey[1, 18:, 32:] = np.random.default_rng(6).integers(0, 256, (18, 32))
    scan = film.Scan(width=1280, height=720, grey=grey)
    textured = film.Crop(start=1, stride=1, x=700.0, y=400.0, side=300.0)
    for elsewhere in ({"start": 0}, {"x": 100.0}, {"y": 20.0}):
        assert film.preview_contrast(scan, replace(textured, **elsewhere)) == 0
    assert film.preview_contrast(scan, textured) > 50


def test_a_scan_tells_each_frames_share(tmp_path: Path) -> None:
    counting_film(tmp_path / "film.mp4", 20)
    shares: list[float] = []
    film.scan(tmp_path / "film.mp4", seen=shares.append)
    assert shares == pytest.approx([1 / 20] * 20)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("just words")
    with pytest.raises(InputError, match="film.mp4 cannot be read as a video"):
        film.scan(tmp_path / "film.mp4")
