"""What a source says of itself, and bars that are told from dark scenes."""

import subprocess

import numpy as np
import pytest

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.encoders import ffmpeg
from cosmos_curate.media.letterbox import letterbox
from cosmos_curate.media.probe import ProbeConfig, probe_stage
from cosmos_curate.schema import COLUMNS
from cosmos_curate.stage import Item, check_stage


def probe(path, **config):
    return probe_stage(ProbeConfig(**config)).open()(Item(id="0" * 64, path=str(path)), {})


def run(*arguments):
    subprocess.run([ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


def moving(picture, count, height, width):
    """Return frames of a window that moves over a picture."""
    whole = picture(height + count, width + count)
    return np.stack([whole[i : i + height, i : i + width] for i in range(count)])


def test_the_stage_keeps_its_word(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", moving(picture, 12, 48, 64))
    stage = probe_stage()
    check_stage(stage, Item(id="0" * 64, path=str(path)), {})
    assert set(stage.writes) - {"source_duration_s"} <= {column.name for column in COLUMNS}


def test_columns_of_a_plain_video(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", moving(picture, 12, 48, 64), crf=1)
    found = dict(probe(path))
    assert 0.9 < found.pop("source_bit_rate") * 0.5 / 8 / path.stat().st_size < 1
    assert found.pop("source_duration_s") == pytest.approx(0.5, abs=1e-3)
    assert found == {
        "source_width": 64,
        "source_height": 48,
        "source_codec": "h264",
        "variable_rate": False,
        "rotation": 0,
        "letterbox": None,
    }


def test_a_rotated_video_with_oblong_pixels_is_as_it_is_shown(video, tmp_path, picture):
    run("-i", video(tmp_path / "a.mp4", moving(picture, 3, 48, 64)), "-vf", "setsar=3/2", tmp_path / "wide.mp4")
    run("-display_rotation", "-90", "-i", tmp_path / "wide.mp4", "-c", "copy", tmp_path / "phone.mp4")
    found = probe(tmp_path / "phone.mp4")
    assert (found["source_width"], found["source_height"], found["rotation"]) == (48, 96, 90)


def test_uneven_frames_are_a_variable_rate_and_rounded_ones_are_not(video, tmp_path, picture):
    frames = moving(picture, 6, 32, 32)
    uneven = video(tmp_path / "uneven.mp4", frames, times_s=[0, 0.04, 0.08, 0.2, 0.21, 0.3])
    assert probe(uneven)["variable_rate"]
    run("-i", video(tmp_path / "even.mp4", frames), "-c", "copy", tmp_path / "even.mkv")
    assert not probe(tmp_path / "even.mkv")["variable_rate"]


@pytest.mark.parametrize(
    ("pixel_format", "size", "codec", "name"),
    [
        ("yuv420p10le", (48, 64), "libx264", "h264"),
        ("yuv444p", (35, 51), "libx264", "h264"),
        ("yuv420p10le", (48, 64), "libx265", "hevc"),
    ],
)
def test_deep_and_odd_videos_are_handled(video, tmp_path, picture, pixel_format, size, codec, name):
    frames = moving(picture, 4, *size)
    run(
        *("-i", video(tmp_path / "a.mp4", frames, pixel_format=pixel_format), "-c:v", codec, "-pix_fmt", pixel_format),
        *("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc", tmp_path / "b.mp4"),
    )
    found = probe(tmp_path / "b.mp4")
    assert (found["source_height"], found["source_width"], found["source_codec"]) == (*size, name)


def test_a_side_that_is_too_long_is_refused(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", moving(picture, 2, 32, 64))
    with pytest.raises(Unusable, match="is 64x32 pixels: a side is longer than 63"):
        probe(path, max_side=63)
    assert probe(path, max_side=64)["source_width"] == 64
    with pytest.raises(InputError, match="max_side is 8"):
        ProbeConfig(max_side=8)


def test_a_video_without_times_has_a_duration(video, tmp_path, picture):
    run("-i", video(tmp_path / "a.mp4", moving(picture, 25, 32, 32)), "-c", "copy", "-f", "h264", tmp_path / "a.h264")
    assert probe(tmp_path / "a.h264")["source_duration_s"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seconds", [1, 30])
def test_bars_of_a_file_are_found_from_all_frames_or_keyframes(video, tmp_path, picture, seconds):
    frames = np.zeros((24 * seconds, 64, 80, 3), np.uint8)
    frames[:, 10:-12, 6:-8] = np.resize(moving(picture, 24, 42, 66), (len(frames), 42, 66, 3))
    path = video(tmp_path / "a.mp4", frames, crf=28)
    run("-i", path, "-c:v", "libx264", "-g", "24", "-preset", "ultrafast", tmp_path / "b.mp4")
    left, top, right, bottom = probe(tmp_path / "b.mp4")["letterbox"]
    assert abs(np.array([left, top, right, bottom]) - [6, 10, 8, 12]).max() <= 1


def boxed(rng, left=0, top=0, right=0, bottom=0, low=40, high=220):
    picture = np.zeros((72, 96, 1), np.uint8)
    height, width = 72 - top - bottom, 96 - left - right
    picture[top : top + height, left : left + width] = rng.integers(low, high, (height, width, 1))
    return picture


def test_bars_are_those_that_hold_still():
    rng = np.random.default_rng(0)
    bars = {"left": 5, "top": 9, "right": 6, "bottom": 10}
    assert letterbox(boxed(rng, **bars) for _ in range(8)) == [5, 9, 6, 10]
    assert letterbox(boxed(rng, top=9) for _ in range(8)) == [0, 9, 0, 0]
    assert letterbox(boxed(rng) for _ in range(8)) is None


def test_noise_and_dark_scenes_do_not_hide_bars():
    rng = np.random.default_rng(1)
    scenes = [boxed(rng, top=9, bottom=9) for _ in range(6)]
    scenes += [boxed(rng, top=9, bottom=9, high=42, low=0) // 8 for _ in range(20)]
    noisy = [scene + rng.integers(0, 5, scene.shape, np.uint8) for scene in scenes]
    assert letterbox(noisy) == [0, 9, 0, 9]


def test_dark_scenes_are_no_bars():
    rng = np.random.default_rng(2)
    dark = [boxed(rng, low=0, high=10) for _ in range(12)]
    assert letterbox(dark) is None
    skies = [boxed(rng, top=int(top)) for top in rng.integers(8, 40, 12)]
    assert letterbox(skies) is None
    dusk = [boxed(rng) * np.linspace(0, 1, 72)[:, None, None] ** 3 for _ in range(12)]
    assert letterbox(np.uint8(d) for d in dusk) is None


def test_bars_that_are_not_always_there_are_left():
    rng = np.random.default_rng(3)
    assert letterbox([*(boxed(rng, top=9, bottom=9) for _ in range(11)), boxed(rng)]) is None


def test_two_frames_are_too_few_and_a_slit_too_little():
    rng = np.random.default_rng(4)
    assert letterbox(boxed(rng, top=9) for _ in range(2)) is None
    assert letterbox(boxed(rng, top=30, bottom=30) for _ in range(8)) is None
