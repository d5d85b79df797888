"""A window of frames out of a video by exact number, through PyAV (FFmpeg).

Packets are counted, not decoded, for the time stamp of each frame; then decoding begins at the key frame before the
window and ends with it. So a window of a long clip costs no more than one of a short clip with such key frames.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from cosmos_posttrain.data.stored import Stored
from cosmos_tokenizer import InputError
from cosmos_tokenizer.video import upright_rgb

_LONG = 1 << 26
"""Bytes from which on a file's time stamps are kept: to find them again, all of it would be read again."""


def video_shape(stored: Stored) -> tuple[int, int, int, float | None]:
    """Return frames, height, width and frames per second as the container's header has them, rotation tags unread.

    Raises:
        InputError: this is no video, or its header is damaged.
    """
    with _opened(stored) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        frames = stream.frames or round((container.duration or 0) / av.time_base * (rate or 0))
        return frames or len(_times(stored) or []), stream.height, stream.width, None if rate is None else float(rate)


def read_window(stored: Stored, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Read frames `first`, `first + step` and so on of a clip, upright, colours as `cosmos_tokenizer.video` has them.

    Raises:
        InputError: this is no video; or one of these frames is missing, damaged or of another size than the first.
    """
    last = first + (count - 1) * step
    size = stored.path.stat().st_size if stored.offset is None and stored.path.is_file() else 0
    times = _times(stored) if size < _LONG else _kept_times(stored, size)
    if times is None:
        wanted = range(first, last + 1, step)
        with _opened(stored) as (container, stream):
            return _collected(enumerate(container.decode(stream)), wanted, stored)
    if last >= len(times):
        raise InputError(f"{stored.name}: ends after {len(times)} frames, and frame {last} was asked; copy it again")
    wanted = times[first : last + 1 : step]
    if first:
        try:
            with _opened(stored) as (container, stream):
                container.seek(wanted[0], stream=stream)
                return _collected(_stamped(container, stream), wanted, stored)
        except InputError:
            pass  # few containers seek inexactly, and some streams decode whole only from their beginning
    with _opened(stored) as (container, stream):
        return _collected(_stamped(container, stream), wanted, stored)


def _stamped(container: InputContainer, stream: VideoStream) -> Iterator[tuple[int | None, av.VideoFrame]]:
    return ((frame.pts, frame) for frame in container.decode(stream))


def _collected(
    frames: Iterator[tuple[int | None, av.VideoFrame]], wanted: Sequence[int], stored: Stored
) -> UInt8[np.ndarray, "T H W 3"]:
    """Gather the frames whose stamps are wanted, in that order, and stop decoding at the last."""
    convert = VideoReformatter()
    slots = {stamp: slot for slot, stamp in enumerate(wanted)}
    window: np.ndarray | None = None
    for stamp, frame in frames:
        if frame.is_corrupt:  # and what is predicted from it is wrong without being marked
            raise InputError(f"{stored.name}: is damaged in the frames that were asked, or before; copy it again")
        slot = None if stamp is None else slots.pop(stamp, None)
        if slot is None:
            continue
        rgb = upright_rgb(frame, convert)
        if window is None:
            window = np.empty((len(wanted), *rgb.shape), np.uint8)
        if rgb.shape != window.shape[1:]:
            raise InputError(f"{stored.name}: changes its frame size; cut it there into two files")
        window[slot] = rgb
        if not slots:
            return window
    raise InputError(f"{stored.name}: {len(slots)} of the frames that were asked cannot be decoded; copy it again")


@contextmanager
def _opened(stored: Stored) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first video stream; whatever FFmpeg finds wrong while it is open is an InputError."""
    file = str(stored.path) if stored.offset is None else stored.open()
    try:
        with av.open(file, "r") as container:
            streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if container.format.name == "tty" or not streams:
                raise InputError(f"{stored.name}: is not a video; give a file that FFmpeg can read, such as an .mp4")
            streams[0].codec_context.thread_count = 1
            yield container, streams[0]
    except FFmpegError as error:
        reason = (error.strerror or "unknown error").lower()
        raise InputError(f"{stored.name}: is not a video, or is damaged ({reason}); copy it again") from error
    finally:
        if not isinstance(file, str):
            file.close()


def _times(stored: Stored) -> list[int] | None:
    """Return the time stamp of each frame that is shown, in display order; None where packets have none, as in AVI."""
    with _opened(stored) as (container, stream):
        times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    whole = [time for time in times if time is not None]
    return sorted(set(whole)) if len(whole) == len(times) else None


@lru_cache(maxsize=16)
def _kept_times(stored: Stored, size: int) -> list[int] | None:
    return _times(stored)
