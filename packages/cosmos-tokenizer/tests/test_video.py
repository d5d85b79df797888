"""Real files in, exact sizes, colours, rates and orientations out."""

import os
import resource
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.video import Video, open_video, read_video, video_writer, write_video

Gradients = Callable[..., np.ndarray]
Film = Callable[..., Path]


@contextmanager
def no_file_past(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 100, 50], [17, 130, 220]], np.uint8
)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 48), (32, 47), (35, 51), (17, 16)])
@pytest.mark.parametrize("frames", [1, 6])
def test_written_video_reads_back_with_its_size_rate_and_look(
    frames: int, height: int, width: int, gradients: Gradients, tmp_path: Path
) -> None:
    footage = gradients(frames, height, width)
    write_video(tmp_path / "a.mp4", Video(frames=footage, rate=Fraction(30000, 1001)))
    read = read_video(tmp_path / "a.mp4")
    assert read.frames.shape == footage.shape
    assert read.rate == Fraction(30000, 1001)
    assert ((read.frames.astype(float) - footage) ** 2).mean() < 255**2 / 10**3.6  # 36 dB


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(24000, 1001), Fraction(25, 2), Fraction(120), Fraction(1, 2)])
def test_frame_rates_survive(rate: Fraction, gradients: Gradients, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", Video(frames=gradients(4), rate=rate))
    assert read_video(tmp_path / "a.mp4").rate == rate


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_flat_colours_survive_and_the_stream_names_its_matrix(height: int, width: int, tmp_path: Path) -> None:
    flat = np.broadcast_to(COLOURS[:, None, None], (7, height, width, 3))
    write_video(tmp_path / "a.mp4", Video(frames=flat, rate=Fraction(10)))
    assert np.abs(read_video(tmp_path / "a.mp4").frames.astype(int) - flat).max() <= 2
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)


@pytest.mark.parametrize(("matrix", "height", "width"), [(1, 32, 48), (5, 32, 48), (5, 64, 1040), (1, 64, 1040)])
def test_the_streams_own_matrix_tag_is_obeyed_at_any_size(matrix: int, height: int, width: int, film: Film) -> None:
    flat = np.broadcast_to(COLOURS[:, None, None], (7, height, width, 3))
    read = read_video(film(flat, pixels="yuv444p", matrix=matrix))
    assert np.abs(read.frames.astype(int) - flat).max() <= 4


@pytest.mark.parametrize(("height", "width", "green"), [(32, 48, 0), (32, 1040, 24), (592, 32, 24)])
def test_untagged_video_is_bt601_when_small_and_bt709_when_large(
    height: int, width: int, green: int, film: Film
) -> None:
    red = np.broadcast_to(COLOURS[0], (2, height, width, 3))
    path = film(red, pixels="yuv444p")  # FFmpeg converts with BT.601 and leaves the stream untagged
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 2
    assert np.abs(read_video(path).frames.astype(int) - (255, green, 0)).max() <= 3


def _turned(path: Path, degrees: int) -> Path:
    """Give an MP4 a display matrix that turns its pictures counter-clockwise, as a phone held upright does."""
    cosine, sine = {90: (0, 1), 180: (-1, 0), -90: (0, -1)}[degrees]
    matrix = struct.pack(">9i", *[v << 16 for v in (cosine, -sine, 0, sine, cosine, 0, 0, 0)], 1 << 30)
    raw = bytearray(path.read_bytes())
    start = raw.index(b"tkhd") + 44
    raw[start : start + 36] = matrix
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(("turned", "quarters"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_tags_are_applied(turned: int, quarters: int, gradients: Gradients, film: Film) -> None:
    footage = gradients(3, 32, 64)
    read = read_video(_turned(film(footage), turned))
    upright = np.rot90(footage, quarters, axes=(1, 2))
    assert read.frames.shape == upright.shape
    assert np.abs(read.frames.astype(float) - upright).mean() < 3


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("grey.mkv", "ffv1", "gray"),
        ("ten.mkv", "ffv1", "yuv420p10le"),
        ("twelve.mkv", "ffv1", "yuv444p12le"),
        ("alpha.mkv", "ffv1", "yuva420p"),
        ("rgba.mkv", "ffv1", "bgra"),
        ("planar.mkv", "libx264rgb", "rgb24"),
        ("full.avi", "mjpeg", "yuvj420p"),
        ("h264.mkv", "libx264", "yuv420p10le"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
    ],
)
def test_every_pixel_format_reads_as_eight_bit_rgb(
    name: str, codec: str, pixels: str, gradients: Gradients, film: Film
) -> None:
    footage = gradients(3, 32, 48)
    if pixels == "gray":
        footage = footage[..., :1].repeat(3, -1)
    fine = {} if codec == "libvpx-vp9" else {"qmin": "1", "qmax": "2"}
    read = read_video(film(footage, name, codec=codec, pixels=pixels, options=fine))
    assert read.frames.shape == footage.shape
    assert read.frames.dtype == np.uint8
    assert np.abs(read.frames.astype(float) - footage).mean() < 4


@pytest.mark.parametrize("name", ["front.mp4", "plain.mp4", "clip.mkv"])
@pytest.mark.parametrize("kept", [0.02, 0.4, 0.8, 0.99])
def test_a_cut_file_is_refused_wherever_it_was_cut(name: str, kept: float, gradients: Gradients, film: Film) -> None:
    front = {"movflags": "+faststart"} if name == "front.mp4" else {}
    path = film(gradients(12), name, container=front, options={"g": "4"})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InputError, match=name) as caught:
        read_video(path)
    assert "\n" not in str(caught.value)


def test_damage_inside_a_file_is_refused(gradients: Gradients, film: Film) -> None:
    path = film(gradients(12), container={"movflags": "+faststart"})
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged after frame"):
        read_video(path)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (tmp_path / "text.mp4").write_text("this is a text\n" * 50)
    (tmp_path / "notes.txt").write_text("this is a text\n" * 50)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    words = {
        "missing.mp4": "no such file",
        "sound.mp4": "sound but no video",
        "text.mp4": "not a video",
        "notes.txt": "not a video",
        "noise.mp4": "not a video",
        "empty.mp4": "not a video",
        "folder.mp4": "is a folder",
    }
    for name, word in words.items():
        with pytest.raises(InputError, match=word) as caught:
            read_video(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize("name", ["none.mkv", "none.mp4", "none.avi"])
def test_a_video_stream_without_frames_is_refused(name: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as out:
        stream = out.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.open()
        out.start_encoding()
    with pytest.raises(InputError, match="zero frames|no video stream"):
        read_video(tmp_path / name)


def test_no_frames_and_other_names_are_not_written(gradients: Gradients, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        write_video(tmp_path / "a.mp4", Video(frames=gradients(2)[:0], rate=Fraction(24)))
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        write_video(tmp_path / "a.mkv", Video(frames=gradients(2), rate=Fraction(24)))
    assert os.listdir(tmp_path) == []


def test_a_failing_encoder_leaves_nothing(
    gradients: Gradients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cosmos_tokenizer.video.VideoReformatter", broken)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", Video(frames=gradients(2), rate=Fraction(24)))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (16, 51)])
@pytest.mark.parametrize("cuts", [[1, 4, 4, 4], [13], [5, 0, 8]])
def test_a_video_written_in_pieces_is_the_one_written_whole(
    cuts: list[int], height: int, width: int, gradients: Gradients, tmp_path: Path
) -> None:
    footage = gradients(13, height, width)
    write_video(tmp_path / "whole.mp4", Video(frames=footage, rate=Fraction(25)))
    with video_writer(tmp_path / "pieces.mp4", size=(height, width), rate=Fraction(25)) as add:
        for piece in np.split(footage, np.cumsum(cuts)[:-1]):
            add(piece)
        assert not (tmp_path / "pieces.mp4").exists()
    assert (tmp_path / "pieces.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    with open_video(tmp_path / "pieces.mp4") as video:
        assert (video.size, video.rate, video.announced) == ((height, width), 25, 13)
        one_by_one = np.stack(list(video.frames))
    assert np.array_equal(one_by_one, read_video(tmp_path / "whole.mp4").frames)


def test_frames_of_another_size_are_refused_not_cropped(gradients: Gradients, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="24x40 for a video of 23x38"),
        video_writer(tmp_path / "a.mp4", size=(23, 38), rate=Fraction(24)) as add,
    ):
        add(gradients(1, 24, 40))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["clip.mkv", "clip.avi", "clip.webm"])
def test_other_containers_announce_their_length_too(name: str, gradients: Gradients, film: Film) -> None:
    codec = "libvpx-vp9" if name == "clip.webm" else "libx264"
    with open_video(film(gradients(12), name, codec=codec, pixels="yuv420p")) as video:
        assert video.announced == 12


def test_frames_are_read_as_they_are_asked_for_and_damage_is_told_when_it_is_met(
    gradients: Gradients, film: Film
) -> None:
    path = film(gradients(40), container={"movflags": "+faststart"}, options={"g": "1"})
    raw = bytearray(path.read_bytes())
    raw[-2000:] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(raw)
    with open_video(path) as video:
        assert next(video.frames).shape == (32, 48, 3)
        with pytest.raises(InputError, match="damaged after frame [1-9]"):
            list(video.frames)


def test_a_change_of_size_is_told_at_its_frame(gradients: Gradients, film: Film, tmp_path: Path) -> None:
    jpeg = {"codec": "mjpeg", "pixels": "yuvj420p"}
    parts = [film(gradients(4, *size), f"{size[1]}.mjpeg", **jpeg) for size in ((32, 48), (32, 64))]
    path = tmp_path / "both.mjpeg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match="changes its frame size at frame 4"):
        read_video(path)


@pytest.mark.parametrize(("error", "old"), [(KeyboardInterrupt, None), (InputError, b"old"), (OSError, b"old")])
def test_a_stream_that_fails_in_the_middle_leaves_what_was_there(
    error: type[BaseException], old: bytes | None, gradients: Gradients, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), video_writer(path, size=(256, 256), rate=Fraction(24)) as add:  # noqa: PT012
        add(np.random.default_rng(0).integers(0, 256, (60, 256, 256, 3), np.uint8))
        [partial] = [p for p in tmp_path.iterdir() if p != path]
        assert partial.stat().st_size > 500_000
        raise error
    assert os.listdir(tmp_path) == ([] if old is None else ["a.mp4"])
    assert old is None or path.read_bytes() == old


def test_a_disk_that_fills_up_in_the_middle_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (60, 128, 128, 3), np.uint8)
    with pytest.raises(OSError, match="too large") as caught, no_file_past(200_000):
        write_video(path, Video(frames=noise, rate=Fraction(24)))
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_equal_frames_give_equal_bytes_on_a_busy_machine(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 96, 96, 3), np.uint8)
    paths = [tmp_path / f"{index}.mp4" for index in range(60)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda path: write_video(path, Video(frames=noise, rate=Fraction(12))), paths))
    assert len({path.read_bytes() for path in paths}) == 1
