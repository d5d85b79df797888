"""Video files to upright 8-bit RGB frames and back, through PyAV (FFmpeg).

Colour. Reading: the stream's own matrix and range tags are obeyed; a stream without a matrix tag is taken as BT.709
when it is wider than 1024 or higher than 576 samples and as BT.601 below, and one without a range tag as limited range,
as players do. Writing: BT.709, limited range, and the stream says so in its tags. Transfer curves are left alone, so
HDR footage is read without tone mapping. Alpha is dropped.
"""

import itertools
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from cosmos_tokenizer.atomic import whole_file
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.truncation import missing_bytes

CRF = 17
"""x264's constant rate factor of written files: visually lossless, about 40 to 48 dB on footage."""

# With x264's AVX-512 code, and one thread too, equal frames now and then gave other bytes on a busy machine.
_INSTRUCTIONS = {"x264-params": "asm=sse4.2"} if platform.machine().lower() in ("x86_64", "amd64") else {}

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif"})
"""What counts as a video when a folder is listed; a file named outright may end in anything."""

# SWS_BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP and ACCURATE_RND, the last three of which av names from version 18 on.
_QUALITY = 0x4 | 0x2000 | 0x4000 | 0x40000
_UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
_BT709 = 1  # the same number in FFmpeg's matrix, primaries and transfer tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """Frames in display order and upright, and frames per second (the average where the file's rate varies).

    A still picture is one frame without a rate.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    rate: Fraction | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Footage:
    """An open clip, to be read once: its frames in display order and upright, each of `size` (height, width).

    `announced` is how many frames the file says or implies that it has, which may be wrong, or None. A still picture
    is one frame without a rate.
    """

    frames: Iterator[UInt8[np.ndarray, "H W 3"]]
    size: tuple[int, int]
    rate: Fraction | None
    announced: int | None


@contextmanager
def open_video(path: Path | str) -> Iterator[Footage]:
    """Open the first video stream of a file, in any format that FFmpeg reads, turned upright by its rotation tag.

    Raises:
        InputError: the file is missing, a folder, no video, audio only, damaged, cut short, or has no frames; damage
            behind the first frame, or a change of size, is told when the frames are read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a video file in it")
    lacking = missing_bytes(path) if path.is_file() else 0
    try:
        container = av.open(str(path))
    except FFmpegError as error:
        if lacking:
            raise InputError(f"{path}: is truncated, {lacking} bytes are missing at its end; copy it again") from error
        if isinstance(error, EOFError):
            raise InputError(f"{path}: holds zero frames, or ends before the first; try another copy") from error
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: may not be read; check its permissions") from error
        reason = (error.strerror or "unknown error").lower()
        raise InputError(f"{path}: is not a video, or is damaged ({reason}); try another copy") from error
    with container:
        if container.format.name == "tty":  # FFmpeg renders any plain text as a film of a terminal
            raise InputError(f"{path}: is not a video; give a file that FFmpeg can read, such as an .mp4")
        if lacking:
            raise InputError(f"{path}: is truncated, {lacking} bytes are missing at its end; copy it again")
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            what = "has sound but no video stream" if container.streams.audio else "has no video stream"
            raise InputError(f"{path}: {what}; give a file with pictures in it")
        frames = _upright_frames(container, streams[0], path)
        first = next(frames, None)
        if first is None:
            raise InputError(f"{path}: holds zero frames; give a video with at least one")
        rate = Fraction(streams[0].average_rate or streams[0].guessed_rate or 25)
        size = first.shape[0], first.shape[1]
        announced = streams[0].frames or round((container.duration or 0) / av.time_base * rate) or None
        all_frames = _of_one_size(itertools.chain([first], frames), size, path)
        yield Footage(frames=all_frames, size=size, rate=rate, announced=announced)


def read_video(path: Path | str) -> Video:
    """Read every frame; see `open_video` for how and for errors."""
    with open_video(path) as footage:
        assert footage.rate is not None
        return Video(frames=_stacked(list(footage.frames)), rate=footage.rate)


@contextmanager
def video_writer(
    path: Path | str, *, size: tuple[int, int], rate: Fraction
) -> Iterator[Callable[[UInt8[np.ndarray, "T H W 3"]], None]]:
    """Open an MP4 file for H.264 (crf 17), to which the function that is given adds frames; whole or not at all.

    4:2:0 where height and width are even, 4:4:4 where either is odd (4:2:0 cannot hold an odd size exactly; few
    browsers play 4:4:4). Equal frames give equal bytes.

    Raises:
        InputError: a name that does not end in `.mp4`, no frames, or a rate near zero.
        OSError: the file cannot be written; nothing is left of it then, nor where the block fails.
    """
    check_video_name(path)
    pixels = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    if not rate.limit_denominator(1_000_000):
        raise InputError(f"{path}: a rate of {rate} frames per second is too slow to write; give at least 1/1000000")
    rate = rate.limit_denominator(1_000_000)
    with whole_file(path) as beside, av.open(str(beside), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(CRF), **_INSTRUCTIONS})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.colorspace = stream.codec_context.color_primaries = _BT709
        stream.codec_context.color_trc, stream.codec_context.color_range = _BT709, ColorRange.MPEG
        convert = VideoReformatter()
        count = itertools.count()

        def add(frames: UInt8[np.ndarray, "T H W 3"]) -> None:
            if frames.shape[1:3] != size:  # FFmpeg would cut them off without a word
                raise ValueError(
                    f"got frames of {frames.shape[1]}x{frames.shape[2]} for a video of {size[0]}x{size[1]}"
                )
            for rgb in frames:
                frame = convert.reformat(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
                    format=pixels,
                    interpolation=_QUALITY,
                    src_color_range=ColorRange.JPEG,
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
                frame.pts, frame.time_base = next(count), 1 / rate
                container.mux(stream.encode(frame))

        yield add
        if not next(count):
            raise InputError(f"{path}: a video needs at least one frame; write a still picture as .png")
        container.mux(stream.encode())


def write_video(path: Path | str, video: Video) -> None:
    """Write a clip at exactly its frames' size and rate; see `video_writer` for how and for errors.

    Raises:
        InputError: also where the clip has no rate.
    """
    if video.rate is None:
        raise InputError(f"{path}: a video needs a frame rate; write a still picture as .png")
    with video_writer(path, size=(video.frames.shape[1], video.frames.shape[2]), rate=video.rate) as add:
        add(video.frames)


def check_video_name(path: Path | str) -> None:
    """Raise InputError unless `path` names an .mp4, the one container that is written."""
    if Path(path).suffix.lower() != ".mp4":
        raise InputError(f"{path}: video is written as MP4; give a name that ends in .mp4")


def _upright_frames(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[np.ndarray]:
    stream.thread_type = "AUTO"
    convert = VideoReformatter()
    done = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise InputError(f"{path}: is damaged after frame {done}; copy it again, or cut it before there")
            for frame in packet.decode():
                yield upright_rgb(frame, convert)
                done += 1
    except FFmpegError as error:
        reason = (error.strerror or "unknown error").lower()
        line = f"{path}: is truncated or damaged after frame {done} ({reason}); copy it again, or cut it before there"
        raise InputError(line) from error


def _of_one_size(frames: Iterator[np.ndarray], size: tuple[int, int], path: Path) -> Iterator[np.ndarray]:
    for index, frame in enumerate(frames):
        if frame.shape[:2] != size:
            raise InputError(f"{path}: changes its frame size at frame {index}; cut it there into two files")
        yield frame


def upright_rgb(frame: av.VideoFrame, convert: VideoReformatter) -> UInt8[np.ndarray, "H W 3"]:
    """Turn a decoded frame into RGB, upright by its rotation tag; `convert` serves all frames of a clip."""
    matrix = None
    if frame.colorspace == _UNTAGGED:
        matrix = Colorspace.ITU709 if frame.width > 1024 or frame.height > 576 else Colorspace.ITU601
    samples = ColorRange(frame.color_range)
    if samples == ColorRange.UNSPECIFIED:
        full = frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya"))
        samples = ColorRange.JPEG if full else ColorRange.MPEG
    rgb = convert.reformat(
        frame,
        format="rgb24",
        interpolation=_QUALITY,
        src_colorspace=matrix,
        src_color_range=samples,
        dst_color_range=ColorRange.JPEG,
    ).to_ndarray()
    return np.rot90(rgb, round(frame.rotation / 90) % 4)


def _stacked(frames: list[np.ndarray]) -> UInt8[np.ndarray, "T H W 3"]:
    """Stack, letting each frame go once it is copied: a long clip is held once, not twice."""
    out = np.empty((len(frames), *frames[0].shape), np.uint8)
    for index in range(len(frames)):
        out[index] = frames[index]
        frames[index] = out[index, :0]
    return out
