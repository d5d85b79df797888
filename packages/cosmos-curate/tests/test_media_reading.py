"""Frames by time, upright and square, and each kind of file that cannot be read."""

import os
import subprocess
from contextlib import closing

import av
import numpy as np
import pytest

from cosmos_curate.errors import Unusable
from cosmos_curate.media import reading
from cosmos_curate.media.choosing import chosen, spread
from cosmos_curate.media.encoders import ffmpeg
from cosmos_curate.media.frames import Sampling
from cosmos_curate.media.reading import decode, read_index, read_samplings

LEVELS = 20


def levels(count=LEVELS, height=48, width=64, step=10):
    """Return flat frames, the gray level of each its index times a step."""
    return np.stack([np.full((height, width, 3), i * step, np.uint8) for i in range(count)])


def run(*arguments):
    subprocess.run([ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


UNEVEN = [0.5, 0.54, 0.6, 0.61, 0.7, 0.9, 1.0, 1.5, 1.55, 1.6, *(2 + i / 30 for i in range(10))]


@pytest.mark.parametrize("times", [None, UNEVEN])
def test_frames_come_in_order_at_their_times(video, tmp_path, times):
    path = video(tmp_path / "a.mp4", levels(), times_s=times)
    shown = [(time, p.pixels(gray=True).mean()) for time, p in decode(path)]
    assert [round(level / 10) for _, level in shown] == list(range(LEVELS))
    np.testing.assert_allclose([time for time, _ in shown], times or np.arange(LEVELS) / 24, atol=1e-5)
    index = read_index(path)
    assert list(index.times_s) == [time for time, _ in shown]
    assert index.end_s > index.times_s[-1]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_pixels_are_full_range_rgb_and_luma(video, tmp_path, pixel_format):
    path = video(tmp_path / "a.mp4", levels(26), crf=4, pixel_format=pixel_format)
    found = read_samplings(path, [Sampling(), Sampling(gray=True)])
    for frames in found.values():
        assert np.abs(frames.pixels.astype(int) - np.arange(26)[:, None, None, None] * 10).max() <= 2


def test_colors_of_an_untagged_video_are_those_written(video, tmp_path, picture):
    red = np.broadcast_to(np.array([200, 40, 60], np.uint8), (3, 64, 64, 3))
    (frames,) = read_samplings(video(tmp_path / "a.mp4", red, crf=4), [Sampling()]).values()
    np.testing.assert_allclose(frames.pixels.reshape(-1, 3).mean(0), [200, 40, 60], atol=3)


def test_smaller_frames_are_area_averages(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", picture(96, 128)[None].repeat(2, 0), crf=1, pixel_format="yuv444p")
    found = read_samplings(path, [Sampling(), Sampling(short_side=24), Sampling(short_side=500, gray=True)])
    full, small, gray = (frames.pixels for frames in found.values())
    blocks = full.reshape(2, 24, 4, 32, 4, 3).mean((2, 4))
    assert np.abs(blocks - small).mean() < 0.6
    assert gray.shape == (2, 96, 128, 1)


def test_odd_sizes_keep_their_proportion(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", picture(33, 57)[None].repeat(2, 0), pixel_format="yuv444p")
    found = read_samplings(path, [Sampling(), Sampling(short_side=11), Sampling(short_side=7, gray=True)])
    assert [frames.pixels.shape for frames in found.values()] == [(2, 33, 57, 3), (2, 11, 19, 3), (2, 7, 12, 1)]


@pytest.mark.parametrize(
    ("options", "turn"),
    [
        (["-display_rotation", "90"], lambda p: np.rot90(p)),
        (["-display_rotation", "180"], lambda p: np.rot90(p, 2)),
        (["-display_rotation", "-90"], lambda p: np.rot90(p, 3)),
        (["-display_hflip"], lambda p: p[:, ::-1]),
    ],
)
def test_rotated_videos_are_turned_upright(video, tmp_path, picture, options, turn):
    flat = video(tmp_path / "flat.mp4", picture(48, 64)[None].repeat(2, 0))
    run(*options, "-i", flat, "-c", "copy", tmp_path / "turned.mp4")
    (straight,) = read_samplings(flat, [Sampling()]).values()
    (turned,) = read_samplings(tmp_path / "turned.mp4", [Sampling()]).values()
    np.testing.assert_array_equal(turned.pixels[0], turn(straight.pixels[0]))


def test_pixels_that_are_not_square_are_made_so(video, tmp_path):
    path = video(tmp_path / "a.mp4", levels(2))
    run("-i", path, "-vf", "setsar=3/2", tmp_path / "wide.mp4")
    (frames,) = read_samplings(tmp_path / "wide.mp4", [Sampling()]).values()
    assert frames.pixels.shape == (2, 48, 96, 3)


@pytest.mark.parametrize(
    ("sampling", "indices"),
    [
        (Sampling(), range(20)),
        (Sampling(rate=8.0), range(0, 20, 3)),
        (Sampling(rate=10.0), [0, 3, 5, 8, 10, 12, 15, 17]),
        (Sampling(rate=1000.0), range(20)),
        (Sampling(rate=0.1), [0]),
        (Sampling(most=1), [9]),
        (Sampling(most=4), [2, 7, 12, 17]),
        (Sampling(most=50), range(20)),
        (Sampling(rate=8.0, most=2), [3, 15]),
    ],
)
def test_samplings_take_the_frames_they_say(video, tmp_path, sampling, indices):
    path = video(tmp_path / "a.mp4", levels(), rate=24)
    (frames,) = read_samplings(path, [sampling]).values()
    assert [round(level / 10) for level in frames.pixels.mean((1, 2, 3))] == list(indices)
    np.testing.assert_allclose(frames.times_s, np.array(indices) / 24, atol=1e-4)


def test_times_count_from_the_clips_first_frame(video, tmp_path):
    path = video(tmp_path / "a.mp4", levels(), times_s=[time + 0.2 for time in UNEVEN])
    (frames,) = read_samplings(path, [Sampling(rate=2.0)]).values()
    np.testing.assert_allclose(frames.times_s + 0.5, [0.5, 1.0, 1.5, 2.0], atol=1e-4)


def test_one_frame_serves_every_sampling(video, tmp_path):
    path = video(tmp_path / "a.mp4", levels(1, 16, 16))
    found = read_samplings(path, [Sampling(), Sampling(rate=3.0, most=8), Sampling(most=1, short_side=8, gray=True)])
    assert [frames.pixels.shape[0] for frames in found.values()] == [1, 1, 1]
    assert all(frames.times_s == [0] for frames in found.values())


def test_an_index_that_is_wrong_costs_a_second_decoding_and_no_frames(video, tmp_path, monkeypatch):
    path = video(tmp_path / "a.mp4", levels())
    right = read_samplings(path, [Sampling(most=3)])
    monkeypatch.setattr(reading, "read_index", lambda path: reading.Index((0.0, 1.0), 2.0, 1))
    for key, frames in read_samplings(path, [Sampling(most=3)]).items():
        np.testing.assert_array_equal(frames.pixels, right[key].pixels)


def test_threads_do_not_change_frames(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", picture(64, 64)[None].repeat(9, 0))
    one, two = (read_samplings(path, [Sampling()], threads=n)[Sampling()] for n in (1, 2))
    np.testing.assert_array_equal(one.pixels, two.pixels)


def test_spread_is_even_symmetric_and_never_twice():
    for n in range(1, 40):
        for most in range(1, n + 1):
            picks = spread(n, most)
            assert picks == sorted(set(picks))
            assert 0 <= picks[0] <= picks[-1] < n
            mirrored = sorted(n - 1 - j for j in picks)
            middle = most // 2 if most % 2 and n % 2 == 0 else -1  # no frame is the middle one
            assert [a == b for i, (a, b) in enumerate(zip(picks, mirrored, strict=True)) if i != middle].count(
                False
            ) == 0


def test_times_rounded_to_a_millisecond_lose_no_frame():
    times = [round(i / 24, 3) for i in range(48)]
    assert chosen(times, Sampling(rate=24.0)) == frozenset(range(48))
    assert chosen([], Sampling(rate=24.0, most=2)) == frozenset()


@pytest.mark.parametrize("name", ["with space.mp4", "ünïcode 影.mp4", "%03d.mp4", "-i.mp4", "a:b.mp4"])
def test_any_name_is_read(video, tmp_path, monkeypatch, name):
    video(tmp_path / "a.mp4", levels(2)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(decode(name))) == 2


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def spoil(kind, path, video):
    whole = video(path.with_name("whole.mp4"), levels())
    data = whole.read_bytes()
    if kind == "text":
        path.write_text("not a video\n" * 50)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes())
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "no moov":
        at = data.index(b"moov") - 4
        path.write_bytes(data[:at])
    elif kind == "cut behind a moov in front":
        run("-i", whole, "-c", "copy", "-movflags", "+faststart", path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "zeroed":
        start, length = data.index(b"mdat") + 4, int.from_bytes(data[data.index(b"mdat") - 4 :][:4], "big")
        path.write_bytes(data[:start] + bytes(length - 8) + data[start + length - 8 :])
    elif kind == "sound":
        write_sound(path)
    elif kind == "still":
        run("-i", whole, "-frames:v", "1", "-f", "image2", "-c:v", "png", "-update", "1", path)
    elif kind == "playlist":
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{whole}\n#EXT-X-ENDLIST\n")
    elif kind == "other files":
        path.write_text("ffconcat version 1.0\nfile whole.mp4\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "is not a video"),
        ("noise", "is not a video"),
        ("empty", "is empty: zero bytes"),
        ("cut", "is cut short: "),
        ("no moov", r"is cut short: its index \(the moov box\) is missing"),
        ("cut behind a moov in front", "is cut short: 200 bytes are missing"),
        ("zeroed", "has no frame that decodes|is damaged after frame 0"),
        ("sound", "has sound but no video"),
        ("still", "is a still picture"),
        ("playlist", "is not a video"),
        ("other files", "is not a video: a playlist"),
        ("folder", "is a folder"),
        ("loop", "cannot be read: too many levels of symbolic links"),
        ("missing", "cannot be read: no such file"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_in_one_line(video, tmp_path, kind, reason):
    path = tmp_path / "spoiled.mp4"
    spoil(kind, path, video)
    with pytest.raises(Unusable, match=f"^({reason})") as caught:
        list(decode(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_says_so(video, tmp_path, monkeypatch):
    path = video(tmp_path / "a.mp4", levels(2))
    if os.geteuid():
        path.chmod(0)
    else:  # the superuser may read everything

        def refuse(path):
            raise PermissionError

        monkeypatch.setattr(reading, "missing_bytes", refuse)
    with pytest.raises(Unusable, match="permission denied"):
        list(decode(path))


def test_a_change_of_size_is_told_behind_the_frames_before_it(video, tmp_path):
    both = tmp_path / "both.h264"
    for height in (48, 64):
        run("-i", video(tmp_path / "a.mp4", levels(5, height)), "-c", "copy", "-f", "h264", tmp_path / "one.h264")
        with both.open("ab") as file:
            file.write((tmp_path / "one.h264").read_bytes())
    with closing(decode(both)) as frames:
        seen = [next(frames) for _ in range(5)]
        assert len(seen) == 5
        with pytest.raises(Unusable, match="at frame 5"):
            next(frames)
