"""Spans become clips with just their frames, at their times, and equal input gives equal bytes."""

import errno
import hashlib
import subprocess
from contextlib import closing

import av
import numpy as np
import pytest

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media import transcode as module
from cosmos_curate.media.encoders import check_encoder, ffmpeg
from cosmos_curate.media.frames import Sampling
from cosmos_curate.media.reading import decode, open_video, read_samplings
from cosmos_curate.media.spans import Span
from cosmos_curate.media.transcode import TranscodeConfig, transcode

COUNT = 60
FAST = TranscodeConfig(preset="ultrafast")


def run(*arguments):
    subprocess.run([ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


def counted(height=32, width=48):
    """Return frames whose number is told by two bars of gray, six levels of it each, over a moving ramp."""
    frames = np.empty((COUNT, height, width, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:] = ((np.arange(width) * 3 + i * 7) % 256)[None, :, None]
        frame[: height // 2, : width // 2] = i % 8 * 32 + 16
        frame[: height // 2, width // 2 :] = i // 8 * 32 + 16
    return frames


def numbers(pixels):
    """Read frame numbers back."""
    height, width = pixels.shape[1:3]
    ones = pixels[:, 4 : height // 2 - 4, 4 : width // 2 - 4].mean((1, 2, 3))
    eights = pixels[:, 4 : height // 2 - 4, width // 2 + 4 : -4].mean((1, 2, 3))
    return [round((one - 16) / 32) + 8 * round((eight - 16) / 32) for one, eight in zip(ones, eights, strict=True)]


def spans_of(path, *cuts):
    times = [time for time, _ in decode(path)]
    times.append(2 * times[-1] - times[-2])
    return [Span(first=a, end=b, start_s=times[a], end_s=times[b]) for a, b in cuts]


def pixels_of(path):
    return read_samplings(path, [Sampling()])[Sampling()].pixels


def psnr(one, other):
    return 10 * np.log10(255**2 / max(1e-6, np.mean((one.astype(float) - other) ** 2)))


UNEVEN = np.cumsum([0.7, *np.random.default_rng(0).uniform(0.004, 0.3, COUNT - 1)]).round(4)
CLOCK = ("-enc_time_base", "demux")
OPEN = (
    "-c:v",
    "libx264",
    "-x264-params",
    "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0",
    "-crf",
    "8",
)


def skip_without(codec):
    try:
        check_encoder(codec)
    except InputError as error:
        pytest.skip(str(error))


def skip_if_ffmpeg_crashes(path):
    """FFmpeg 7.0.2, as older imageio-ffmpeg brings it, crashes on every MPEG transport stream."""
    if subprocess.run([ffmpeg(), "-nostdin", "-i", path, "-f", "null", "-"], capture_output=True).returncode < 0:
        pytest.skip(f"this FFmpeg crashes on {path.name}")


CUTS = ((0, 1), (1, 9), (9, 23), (12, 36), (23, 24), (35, 59), (59, 60))


@pytest.mark.parametrize(
    ("name", "times", "options"),
    [
        ("cfr.mp4", None, ()),
        ("vfr.mp4", UNEVEN, ()),
        ("late.mp4", np.arange(COUNT) / 24 + 5.5, ()),
        ("open.mp4", None, OPEN),
        ("open.mkv", UNEVEN, OPEN + CLOCK),
        ("open.ts", None, OPEN),
        ("x265.mp4", None, ("-c:v", "libx265", "-x265-params", "log-level=none:open-gop=1:keyint=12:bframes=3")),
        ("deep.mp4", None, ("-pix_fmt", "yuv420p10le", "-crf", "8")),
        ("disc.ts", None, ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2")),
        ("old.avi", None, ("-c:v", "mpeg4", "-q:v", "2")),
        ("film.webm", None, ("-c:v", "libvpx-vp9", "-crf", "10", "-b:v", "0", "-deadline", "realtime")),
    ],
)
def test_clips_hold_their_frames_and_no_others(video, tmp_path, name, times, options):
    codec = "libopenh264" if name in ("vfr.mp4", "open.mp4") else "libx264"
    skip_without(codec)
    source = video(tmp_path / "plain.mp4", counted(), times_s=times, crf=8)
    if options:
        run("-i", source, "-fps_mode", "passthrough", "-copyts", *options, tmp_path / name)
        source = tmp_path / name
        skip_if_ffmpeg_crashes(source)
    spans = spans_of(source, *CUTS)
    shown = [(time, picture.pixels()) for time, picture in decode(source)]
    assert numbers(np.stack([pixels for _, pixels in shown])) == list(range(COUNT))
    config = TranscodeConfig(codec=codec, preset=None if codec == "libopenh264" else "ultrafast", quality=12)
    made = transcode(source, spans, [tmp_path / f"{i}.mp4" for i in range(len(spans))], config)
    for span, clip in zip(spans, made, strict=True):
        assert not isinstance(clip, Unusable), clip
        assert clip.num_frames == span.end - span.first
        frames = read_samplings(clip.path, [Sampling()])[Sampling()]
        assert numbers(frames.pixels) == list(range(span.first, span.end))
        wanted = np.array([time for time, _ in shown[span.first : span.end]])
        np.testing.assert_allclose(frames.times_s, wanted - wanted[0], atol=1e-5)
        with closing(decode(clip.path)) as first:
            assert next(first).time_s == 0
        assert psnr(frames.pixels[0], shown[span.first][1]) > 33
        assert psnr(frames.pixels[-1], shown[span.end - 1][1]) > 33


def test_frames_that_do_not_follow_in_time_are_left_out_of_videos_and_clips(video, tmp_path):
    run("-i", video(tmp_path / "a.mp4", counted(), crf=8), "-c:v", "mjpeg", "-q:v", "2", tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as source, av.open(str(tmp_path / "c.mkv"), "w") as target:
        stream, last = target.add_stream_from_template(source.streams.video[0]), 0
        for number, packet in enumerate(p for p in source.demux() if p.size):
            packet.stream = stream
            if number % 7 == 0:
                packet.pts = packet.dts = last
            last = packet.pts
            target.mux(packet)
    wanted = [i for i in range(COUNT) if i % 7 or not i]
    assert numbers(pixels_of(tmp_path / "c.mkv")) == wanted
    spans = spans_of(tmp_path / "c.mkv", (0, 5), (5, 20), (30, 52))
    made = transcode(tmp_path / "c.mkv", spans, [tmp_path / f"{i}.mp4" for i in range(3)], FAST)
    for span, clip in zip(spans, made, strict=True):
        assert numbers(pixels_of(clip.path)) == wanted[span.first : span.end]


def test_clips_far_into_a_long_video_are_exact_too(video, tmp_path):
    times = np.arange(COUNT) * 0.9 + 1
    source = video(tmp_path / "plain.mp4", counted(), times_s=times, crf=8)
    run("-i", source, "-fps_mode", "passthrough", *CLOCK, "-copyts", *OPEN, tmp_path / "a.mp4")
    run("-i", tmp_path / "a.mp4", "-c", "copy", "-copyts", tmp_path / "a.ts")
    for name in ("a.mp4", "a.ts"):
        skip_if_ffmpeg_crashes(tmp_path / name)
        spans = spans_of(tmp_path / name, (40, 44), (37, 38), (2, 5), (55, 60))
        made = transcode(tmp_path / name, spans, [tmp_path / f"{i}.mp4" for i in range(4)], FAST)
        for span, clip in zip(spans, made, strict=True):
            assert numbers(pixels_of(clip.path)) == list(range(span.first, span.end))


def test_equal_input_gives_equal_bytes_one_or_several_a_call(video, tmp_path):
    source = video(tmp_path / "a.mp4", counted(64, 96))
    spans = spans_of(source, (0, 20), (20, 21), (25, 60))
    found = []
    for run_number, several in enumerate((16, 16, 1)):
        folder = tmp_path / str(run_number)
        folder.mkdir()
        config = TranscodeConfig(clips_per_call=several)
        made = transcode(source, spans, [folder / f"{i}.mp4" for i in range(3)], config)
        found.append([clip.sha256 for clip in made])
        for clip in made:
            data = clip.path.read_bytes()
            assert (hashlib.sha256(data).hexdigest(), len(data)) == (clip.sha256, clip.bytes)
            assert data.index(b"moov") < data.index(b"mdat")
        assert sorted(p.name for p in folder.iterdir()) == ["0.mp4", "1.mp4", "2.mp4"]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("codec", ["libx264", "libopenh264"])
def test_quality_decides_and_not_a_rate_of_bits(video, tmp_path, picture, codec):
    skip_without(codec)
    frames = np.stack([picture(64, 96)] * 3)
    source = video(tmp_path / "a.mp4", frames, crf=4)
    sizes, likeness = [], []
    for quality in (10, 20, 40):
        (clip,) = transcode(
            source, spans_of(source, (0, 3)), [tmp_path / "b.mp4"], TranscodeConfig(codec=codec, quality=quality)
        )
        sizes.append(clip.bytes)
        likeness.append(psnr(pixels_of(clip.path), pixels_of(source)))
    assert sizes == sorted(sizes, reverse=True)
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > likeness[2] + 6


def test_bars_are_cut_inwards_to_even_pixels_and_odd_sides_lose_one(video, tmp_path):
    frames = counted(45, 61)
    frames[:, :5] = frames[:, -4:] = frames[:, :, :3] = 0
    source = video(tmp_path / "a.mp4", frames, crf=4, pixel_format="yuv444p")
    spans = spans_of(source, (3, 9))
    (clip,) = transcode(source, spans, [tmp_path / "b.mp4"], FAST, crop=[3, 5, 0, 4])
    assert (clip.width, clip.height) == (56, 34)  # 61 - 4 is odd, and 45 - 6 - 4 too
    wanted = pixels_of(source)[3:9, 6:40, 4:60]
    assert psnr(pixels_of(clip.path), wanted) > 28
    (whole,) = transcode(source, spans, [tmp_path / "c.mp4"], TranscodeConfig(crop_letterbox=False), crop=[3, 5, 0, 4])
    assert (whole.width, whole.height) == (60, 44)


@pytest.mark.parametrize(
    "options",
    [("-display_rotation", "90"), ("-display_rotation", "-90"), ("-display_rotation", "180"), ("-display_hflip",)],
)
def test_clips_are_upright_with_square_pixels(video, tmp_path, picture, options):
    run(
        "-i", video(tmp_path / "a.mp4", np.stack([picture(48, 64)] * 3), crf=4), "-vf", "setsar=3/2", tmp_path / "b.mp4"
    )
    run(*options, "-i", tmp_path / "b.mp4", "-c", "copy", tmp_path / "c.mp4")
    (clip,) = transcode(tmp_path / "c.mp4", spans_of(tmp_path / "c.mp4", (0, 3)), [tmp_path / "d.mp4"], FAST)
    assert psnr(pixels_of(clip.path), pixels_of(tmp_path / "c.mp4")) > 30
    with closing(decode(clip.path)) as frames:
        turn = next(frames).picture.orientation
    assert (turn.aspect, turn.degrees) == (1.0, 0)


@pytest.mark.parametrize(
    "options",
    [
        ("-vf", "scale=out_range=full", "-color_range", "pc"),
        ("-pix_fmt", "yuvj444p"),
        ("-colorspace", "bt709", "-vf", "scale=out_color_matrix=bt709"),
        ("-c:v", "libx264rgb"),
        ("-c:v", "ffv1", "-pix_fmt", "gray"),
    ],
)
def test_colors_stay_whatever_the_source_says_of_its_own(video, tmp_path, options):
    colors = np.random.default_rng(0).integers(30, 225, (1, 2, 3, 3), np.uint8).repeat(32, 1).repeat(32, 2)
    run("-i", video(tmp_path / "a.mp4", colors.repeat(2, 0), crf=2), *options, tmp_path / "b.mkv")
    span = Span(first=0, end=2, start_s=0.0, end_s=2 / 24)
    (clip,) = transcode(tmp_path / "b.mkv", [span], [tmp_path / "c.mp4"], TranscodeConfig(quality=4))
    difference = pixels_of(clip.path).astype(int) - pixels_of(tmp_path / "b.mkv")
    centers = difference[:, 16::32, 16::32]
    assert np.abs(centers).max() <= 4, centers
    container, stream = open_video(clip.path)
    with container:
        assert stream.codec_context.color_range != 2  # full


def test_hdr_is_tagged_and_8_bits(video, tmp_path):
    tags = ("-vf", "setparams=colorspace=bt2020nc:color_trc=smpte2084:color_primaries=bt2020:range=tv")
    plain = video(tmp_path / "a.mp4", counted())
    run("-i", plain, "-pix_fmt", "yuv420p10le", *tags, tmp_path / "b.mp4")
    (clip,) = transcode(tmp_path / "b.mp4", spans_of(tmp_path / "b.mp4", (5, 9)), [tmp_path / "c.mp4"], FAST)
    container, stream = open_video(clip.path)
    with container:
        codec = stream.codec_context
        assert (codec.pix_fmt, codec.color_trc, codec.color_primaries, codec.colorspace) == ("yuv420p", 16, 9, 9)


def test_a_clip_that_fails_does_not_take_the_others_along(video, tmp_path):
    source = video(tmp_path / "a.mp4", counted())
    good, bad = spans_of(source, (0, 9), (9, 20))
    bad = Span(first=9, end=22, start_s=bad.start_s, end_s=bad.end_s)
    beyond = Span(first=100, end=103, start_s=50.0, end_s=51.0)
    targets = [tmp_path / f"{i}.mp4" for i in range(3)]
    first, second, third = transcode(source, [good, bad, beyond], targets, FAST)
    assert first.num_frames == 9
    assert isinstance(second, Unusable)
    assert "was encoded to 11 frames, and 13 lie between" in str(second)
    assert isinstance(third, Unusable)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.mp4", "a.mp4"]


@pytest.mark.parametrize(("pixels", "calls"), [(10**9, [3]), (2 * 48 * 32, [2, 1]), (1, [1, 1, 1])])
def test_larger_pictures_go_fewer_a_call(video, tmp_path, monkeypatch, pixels, calls):
    source = video(tmp_path / "a.mp4", counted(32, 48))
    true_run, found = module._run, []

    def counting(command, target):
        found.append(sum(str(word).startswith("file:") for word in command) - 1)
        return true_run(command, target)

    monkeypatch.setattr(module, "_run", counting)
    monkeypatch.setattr(module, "_MOST_PIXELS", pixels)
    made = transcode(
        source, spans_of(source, (0, 9), (9, 20), (20, 30)), [tmp_path / f"{i}.mp4" for i in range(3)], FAST
    )
    assert [clip.num_frames for clip in made] == [9, 11, 10]
    assert found == calls


def test_a_call_that_fails_is_done_again_clip_by_clip(video, tmp_path, monkeypatch):
    source = video(tmp_path / "a.mp4", counted())
    spans = spans_of(source, (0, 9), (9, 20), (20, 30))
    true_run, calls = module._run, []

    def failing(command, target):
        calls.append(command)
        return "no such luck" if any("1.mp4" in str(word) for word in command) else true_run(command, target)

    monkeypatch.setattr(module, "_run", failing)
    first, second, third = transcode(source, spans, [tmp_path / f"{i}.mp4" for i in range(3)], FAST)
    assert (first.num_frames, third.num_frames) == (9, 10)
    assert str(second) == "could not be encoded: no such luck"
    assert len(calls) == 4


def test_a_full_disk_is_no_fault_of_the_clip(video, tmp_path, monkeypatch):
    source = video(tmp_path / "a.mp4", counted())
    (span,) = spans_of(source, (0, 9))
    words = b"x\nError writing trailer: No space left on device\n"
    monkeypatch.setattr(module, "run_program", lambda command: (1, words))
    with pytest.raises(OSError, match="out.mp4") as caught:
        transcode(source, [span], [tmp_path / "out.mp4"], FAST)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.setattr(module, "run_program", lambda command: (-9, b""))
    with pytest.raises(ChildProcessError, match="stopped by signal 9"):
        transcode(source, [span], [tmp_path / "out.mp4"], FAST)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", ["with space.mp4", "ünïcode 影.mp4", "%03d.mp4", "-i.mp4", "a:b,c;[d]'e'.mp4"])
def test_any_name_is_read_and_written(video, tmp_path, monkeypatch, name):
    source = video(tmp_path / "a.mp4", counted()).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (clip,) = transcode(source.name, spans_of(source, (0, 2)), [tmp_path / "out" / name], FAST)
    assert clip.path == tmp_path / "out" / name
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


def test_a_source_or_a_picture_that_is_too_small_is_unusable(video, tmp_path):
    source = video(tmp_path / "a.mp4", counted())
    span = Span(first=0, end=2, start_s=0.0, end_s=0.08)
    with pytest.raises(Unusable, match="picture of 48x12 pixels"):
        transcode(source, [span], [tmp_path / "b.mp4"], FAST, crop=[0, 10, 0, 10])
    (tmp_path / "none.mp4").write_bytes(b"")
    with pytest.raises(Unusable, match="is empty"):
        transcode(tmp_path / "none.mp4", [span], [tmp_path / "b.mp4"], FAST)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"codec": "libx265"}, "choose one of libx264, libopenh264, h264_nvenc"),
        ({"quality": 0}, "quality is 0; give 1"),
        ({"quality": 52}, "quality is 52"),
        ({"preset": "p5"}, "preset is 'p5'; choose one of ultrafast"),
        ({"codec": "libopenh264", "preset": "fast"}, "libopenh264 has none"),
        ({"clips_per_call": 0}, "clips_per_call is 0"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InputError, match=words):
        TranscodeConfig(**settings)


def test_an_encoder_that_is_not_there_is_named(video, tmp_path):
    source = video(tmp_path / "a.mp4", counted())
    try:
        check_encoder("h264_nvenc")
    except InputError:
        with pytest.raises(InputError, match=r"h264_nvenc does not work here.*cosmos-curate\[gpu\]"):
            transcode(source, spans_of(source, (0, 2)), [tmp_path / "b.mp4"], TranscodeConfig(codec="h264_nvenc"))
    else:
        (clip,) = transcode(source, spans_of(source, (0, 2)), [tmp_path / "b.mp4"], TranscodeConfig(codec="h264_nvenc"))
        assert clip.num_frames == 2
