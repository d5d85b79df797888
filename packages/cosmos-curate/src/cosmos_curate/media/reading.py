"""Frames of a video file, streamed in the order and at the times they are shown, and frames as scorers ask for them."""

import errno
from collections.abc import Collection, Generator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from cosmos_curate.errors import Unusable
from cosmos_curate.media.choosing import chosen, due
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.picture import Orientation, Picture, fitted, orientation
from cosmos_curate.media.truncation import lacks_index, missing_bytes

# FFmpeg plays lists of other files, and plain text as a film of a terminal.
_NO_VIDEO = {
    "tty": "plain text",
    "hls": "a playlist",
    "concat": "a playlist",
    "dash": "a playlist",
    "sdp": "a playlist",
}


class Shown(NamedTuple):
    """One frame: when it is shown, in seconds on the video's own clock, and its picture."""

    time_s: float
    picture: Picture


def open_video(path: Path | str) -> tuple[InputContainer, VideoStream]:
    """Open a local file and its first video stream that is no cover picture; the caller closes the container.

    Raises:
        Unusable: missing, a folder, unreadable, empty, cut short, no video, a still picture, or sound alone.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise Unusable("is a folder, not a video")
        if not path.stat().st_size:
            raise Unusable("is empty: zero bytes")
        lacking = missing_bytes(path)
    except PermissionError as error:
        raise Unusable("may not be read: permission denied") from error
    except OSError as error:
        if error.errno == errno.EIO:
            raise
        raise Unusable(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from error
    if lacking:
        raise Unusable(f"is cut short: {lacking} bytes are missing at its end")
    try:
        container = av.open(str(path.absolute()), container_options={"protocol_whitelist": "file"})
    except FFmpegError as error:
        if lacks_index(path):
            raise Unusable("is cut short: its index (the moov box) is missing") from error
        raise Unusable(f"is not a video, or is damaged: {_reason(error)}") from error
    name, reason = container.format.name, None
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if name in _NO_VIDEO:
        reason = f"is not a video: {_NO_VIDEO[name]}"
    elif name == "image2" or name.endswith("_pipe"):
        reason = "is a still picture, not a video"
    elif not streams:
        reason = "has sound but no video" if container.streams.audio else "has no video stream"
    if reason:
        container.close()
        raise Unusable(reason)
    return container, streams[0]


def decode(path: Path | str, *, threads: int = 1) -> Generator[Shown, None, None]:
    """Yield (time_s, picture) for every frame in the order shown; times rise strictly.

    A frame whose time is not after that of the frame before it is never shown, and left out.

    Args:
        threads: of the decoder.

    Raises:
        Unusable: see `open_video`; also where no frame decodes, or, behind the frames before it, at a damaged frame, a
            change of size or a jump back in time.
    """
    container, stream = open_video(path)
    with container:
        stream.codec_context.thread_count = threads
        stream.thread_type = "NONE" if threads == 1 else "AUTO"
        yield from decode_stream(container, stream)


def decode_stream(container: InputContainer, stream: VideoStream) -> Generator[Shown, None, None]:
    """Yield the frames from where the container stands, as `decode` does."""
    convert = VideoReformatter()
    step = float(1 / (stream.average_rate or stream.guessed_rate or 25))
    turn, size, time, count = Orientation(), None, None, 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and count:  # a broadcast may be joined in the middle of a packet
                raise Unusable(f"is damaged after frame {count}")
            for frame in packet.decode():
                if size is None:
                    size = frame.height, frame.width
                    turn = orientation(frame, pixel_aspect(stream))
                elif size != (frame.height, frame.width):
                    raise Unusable(f"changes its frame size at frame {count}")
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is not None and frame.time_base is not None:
                    now = float(stamp * frame.time_base)
                else:
                    now = 0.0 if time is None else time + step
                if time is not None and now <= time:
                    if now < time - 1:
                        raise Unusable(f"jumps back in time at frame {count}")
                    continue
                time = now
                yield Shown(now, Picture(frame, turn, convert))
                count += 1
    except FFmpegError as error:
        raise Unusable(f"is damaged after frame {count}: {_reason(error)}") from error
    if not count:
        raise Unusable("has no frame that decodes")


def read_samplings(path: Path | str, samplings: Collection[Sampling], *, threads: int = 1) -> dict[Sampling, Frames]:
    """Decode a clip once and serve all samplings; memory holds the frames returned and no others.

    Where a sampling has `most`, the file's index says beforehand how many frames there are; if decoding then gives
    others, the clip is decoded once more.

    Args:
        threads: of the decoder.

    Raises:
        Unusable: see `decode`.
    """
    wanted = list(dict.fromkeys(samplings))
    counted = any(s.most is not None for s in wanted)
    times = list(read_index(path).times_s) if counted else []
    for _ in range(2):
        shown, frames = _read(path, wanted, times, threads)
        if not counted or shown == times:
            return frames
        times = shown
    raise Unusable("decodes to other frames each time")


def _read(
    path: Path | str, samplings: list[Sampling], times: list[float], threads: int
) -> tuple[list[float], dict[Sampling, Frames]]:
    """Read by the times expected; return the times found."""
    picks = {s: chosen(times, s) for s in samplings if s.most is not None}
    ticks = dict.fromkeys(samplings, 0)
    kept: dict[Sampling, list[np.ndarray]] = {s: [] for s in samplings}
    kept_s: dict[Sampling, list[float]] = {s: [] for s in samplings}
    shown: list[float] = []
    with closing(decode(path, threads=threads)) as frames:
        for index, (time, picture) in enumerate(frames):
            shown.append(time)
            converted: dict[tuple[int, int, bool], np.ndarray] = {}
            for s in samplings:
                if s in picks:
                    take = index in picks[s]
                else:
                    take, ticks[s] = due(time - shown[0], s.rate, ticks[s])
                if take:
                    height, width = fitted(picture.height, picture.width, s.short_side)
                    key = height, width, s.gray
                    if key not in converted:
                        converted[key] = picture.pixels((height, width), gray=s.gray)
                    kept[s].append(converted[key])
                    kept_s[s].append(time - shown[0])
    # One sampling after another, so that its single frames are let go before the next is stacked.
    return shown, {s: Frames(np.stack(kept.pop(s)), np.array(kept_s[s], np.float64)) for s in samplings if kept_s[s]}


def pixel_aspect(stream: VideoStream) -> float:
    """Return width over height of one pixel; 1 where they differ by under half a percent, as by rounding."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return 1.0 if abs(aspect - 1) < 0.005 or aspect <= 0 else aspect


class Index(NamedTuple):
    """What the packets of a video say, undecoded: when frames are shown, the end of the last, and bytes of them all."""

    times_s: tuple[float, ...]
    end_s: float
    bytes: int


def read_index(path: Path | str) -> Index:
    """Read packets without decoding them; no times where one has none. Where the file is damaged the index ends.

    Raises:
        Unusable: see `open_video`.
    """
    container, stream = open_video(path)
    stamps: list[tuple[int, int]] = []
    total, complete = 0, True
    with container:
        base = stream.time_base
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                total += packet.size
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:
                    complete = False
                else:
                    stamps.append((stamp, packet.duration or 0))
        except FFmpegError:
            complete = complete and bool(stamps)
        step = 1 / (stream.average_rate or stream.guessed_rate or 25)
    if not complete or not base or not stamps:
        return Index((), 0.0, total)
    stamps.sort()
    last, duration = stamps[-1]
    end = (last + duration) * base if duration else last * base + step
    return Index(tuple(float(stamp * base) for stamp in dict.fromkeys(stamp for stamp, _ in stamps)), float(end), total)


def _reason(error: FFmpegError) -> str:
    """Return FFmpeg's words; a failing disk is no fault of the file and is raised on."""
    if error.errno == errno.EIO:
        raise error
    return (error.strerror or "unknown error").lower()
