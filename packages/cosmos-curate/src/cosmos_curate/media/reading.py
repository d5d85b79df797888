"""Frames of a video file, streamed: when each is shown, and its pixels upright, square, 8-bit, in the size wanted.

Colour: the stream's own matrix and range tags are obeyed; without a matrix tag a picture wider than 1024 or higher than
576 samples is BT.709 and a smaller one BT.601, without a range tag it is limited, as players do. Transfer curves are
left alone: HDR is not tone-mapped.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from cosmos_curate.errors import Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.truncation import missing_bytes

GRACE_S = 0.0005
"""A frame this much early still counts as at its time: Matroska rounds times to a millisecond."""

# SWS_AREA or SWS_BICUBIC with FULL_CHR_H_INT, FULL_CHR_H_INP and ACCURATE_RND, which av names from version 18 on.
_EXACT = 0x2000 | 0x4000 | 0x40000
_AREA, _BICUBIC = 0x20, 0x4
_UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED


class Shown(NamedTuple):
    """One frame: when it is shown, in seconds on the video's own clock, and its picture."""

    time_s: float
    picture: "Picture"


class Picture:
    """A decoded frame; `height` and `width` are as shown, upright and with square pixels. Nothing is converted yet.

    It holds one of the decoder's buffers: take the pixels and let it go.
    """

    def __init__(self, frame: av.VideoFrame, aspect: float, convert: VideoReformatter) -> None:
        self._frame, self._convert = frame, convert
        self._turns = round(frame.rotation / 90) % 4
        self._coded = frame.height, max(1, round(frame.width * aspect))
        self.height, self.width = self._coded[::-1] if self._turns % 2 else self._coded

    @property
    def duration_s(self) -> float | None:
        """How long the file says that the frame is shown; None where it does not say."""
        duration, base = self._frame.duration, self._frame.time_base
        return float(duration * base) if duration and base else None

    def pixels(self, size: tuple[int, int] | None = None, *, gray: bool = False) -> UInt8[np.ndarray, "H W C"]:
        """Convert to full-range RGB, or to luma alone.

        Args:
            size: height and width wanted, of the upright picture, by area averaging; None for those shown.
        """
        height, width = size or (self.height, self.width)
        coded = (width, height) if self._turns % 2 else (height, width)
        frame = self._frame
        smaller = coded[0] < frame.height or coded[1] < frame.width
        matrix = None
        if frame.colorspace == _UNTAGGED:
            matrix = Colorspace.ITU709 if frame.width > 1024 or frame.height > 576 else Colorspace.ITU601
        samples = ColorRange(frame.color_range)
        if samples == ColorRange.UNSPECIFIED:
            full = frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya"))
            samples = ColorRange.JPEG if full else ColorRange.MPEG
        pixels = self._convert.reformat(
            frame,
            height=coded[0],
            width=coded[1],
            format="gray" if gray else "rgb24",
            interpolation=_EXACT | (_AREA if smaller else _BICUBIC),
            src_colorspace=matrix,
            src_color_range=samples,
            dst_color_range=ColorRange.JPEG,
        ).to_ndarray()
        pixels = np.rot90(pixels, self._turns)
        return np.ascontiguousarray(pixels[..., None] if gray else pixels)


def fitted(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Return height and width with the shorter side brought down to `short_side`, in proportion; never enlarged."""
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return max(1, round(height * short_side / short)), max(1, round(width * short_side / short))


def open_video(path: Path | str) -> tuple[InputContainer, VideoStream]:
    """Open a file and its first video stream that is no cover picture; the caller closes the container.

    Raises:
        Unusable: missing, a folder, unreadable, empty, cut short, no video, or sound alone.
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
        raise Unusable(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from error
    if lacking:
        raise Unusable(f"is cut short: {lacking} bytes are missing at its end")
    try:
        container = av.open(str(path))
    except FFmpegError as error:
        raise Unusable(f"is not a video, or is damaged: {(error.strerror or 'unknown error').lower()}") from error
    reason = None
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if container.format.name == "tty":  # FFmpeg renders any plain text as a film of a terminal
        reason = "is not a video: plain text"
    elif not streams:
        reason = "has sound but no video" if container.streams.audio else "has no video stream"
    if reason:
        container.close()
        raise Unusable(reason)
    return container, streams[0]


def decode(path: Path | str, *, threads: int = 1) -> Iterator[Shown]:
    """Yield (time_s, picture) for every frame in the order shown; times rise strictly.

    Args:
        threads: of the decoder.

    Raises:
        Unusable: see `open_video`; also where no frame decodes, or at a damaged frame or a change of size, behind the
            frames before it.
    """
    container, stream = open_video(path)
    with container:
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads != 1 else "NONE"
        yield from _frames(container, stream)


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[Shown]:
    convert = VideoReformatter()
    aspect = float(stream.sample_aspect_ratio or 1)
    step = float(1 / (stream.average_rate or stream.guessed_rate or 25))
    size, time, count = None, None, 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise Unusable(f"is damaged after frame {count}")
            for frame in packet.decode():
                if size not in (None, (frame.height, frame.width)):
                    raise Unusable(f"changes its frame size at frame {count}")
                size = frame.height, frame.width
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is not None and frame.time_base is not None:
                    now = float(stamp * frame.time_base)
                else:
                    now = 0.0 if time is None else time + step
                if time is not None and now <= time:
                    raise Unusable(f"has frames that do not follow in time, at frame {count}")
                time = now
                yield Shown(now, Picture(frame, aspect, convert))
                count += 1
    except FFmpegError as error:
        raise Unusable(f"is damaged after frame {count}: {(error.strerror or 'unknown error').lower()}") from error
    if not count:
        raise Unusable("has no frame that decodes")


def read_samplings(path: Path | str, samplings: Sequence[Sampling], *, threads: int = 1) -> dict[Sampling, Frames]:
    """Decode a clip once and serve all samplings; memory holds the frames returned and no others.

    Where a sampling has `most`, the file's index says beforehand how many frames there are; if decoding then gives
    others, the clip is decoded once more.

    Raises:
        Unusable: see `decode`.
    """
    wanted = list(dict.fromkeys(samplings))
    counted = any(s.most is not None for s in wanted)
    times = indexed_times(path) if counted else []
    for _ in range(2):
        shown, frames = _read(path, wanted, times, threads)
        if not counted or shown == times:
            return frames
        times = shown
    raise Unusable("decodes to other frames each time")


def _read(
    path: Path | str, samplings: list[Sampling], times: list[float], threads: int
) -> tuple[list[float], dict[Sampling, Frames]]:
    picks = {s: chosen(times, s) if s.most is not None else None for s in samplings}
    ticks = dict.fromkeys(samplings, 0)
    kept: dict[Sampling, list[tuple[float, np.ndarray]]] = {s: [] for s in samplings}
    shown: list[float] = []
    with closing(decode(path, threads=threads)) as frames:
        for index, (time, picture) in enumerate(frames):
            shown.append(time)
            converted: dict[tuple[int, int, bool], np.ndarray] = {}
            for s in samplings:
                pick = picks[s]
                if pick is not None:
                    take = index in pick
                else:
                    take, ticks[s] = _due(time - shown[0], s.rate, ticks[s])
                if take:
                    key = (*fitted(picture.height, picture.width, s.short_side), s.gray)
                    if key not in converted:
                        converted[key] = picture.pixels(key[:2], gray=s.gray)
                    kept[s].append((time - shown[0], converted[key]))
    out = {}
    for s, pairs in kept.items():
        if pairs:
            out[s] = Frames(np.stack([p for _, p in pairs]), np.array([t for t, _ in pairs], np.float64))
    return shown, out


def chosen(times_s: Sequence[float], sampling: Sampling) -> frozenset[int]:
    """Return which of the frames shown at these times a sampling takes; empty for no times."""
    taken, tick = [], 0
    for index, time in enumerate(times_s):
        take, tick = _due(time - times_s[0], sampling.rate, tick)
        if take:
            taken.append(index)
    n, most = len(taken), sampling.most
    if most is None or n <= most:
        return frozenset(taken)
    # Frame j is the i-th of `most` where (j + 1/2) / n is nearest to (i + 1/2) / most; ties go outwards.
    picks = []
    for i in range(most):
        twice = (2 * i + 1) * n - most  # of 2 * most
        picks.append(-((most - twice) // (2 * most)) if 2 * i + 1 <= most else (twice + most) // (2 * most))
    return frozenset(taken[j] for j in picks)


def _due(time: float, rate: float | None, tick: int) -> tuple[bool, int]:
    """Whether the frame at `time` is the first at or after tick / rate; and the first tick after the frame."""
    if rate is None:
        return True, tick
    if time + GRACE_S < tick / rate:
        return False, tick
    following = max(tick + 1, int((time + GRACE_S) * rate) + 1)
    return True, following


def indexed_times(path: Path | str) -> list[float]:
    """Return when frames are shown by the packets' timestamps, rising, without decoding; empty where one has none."""
    container, stream = open_video(path)
    with container:
        stamps = []
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        return []
                    stamps.append(packet.pts)
        except FFmpegError:
            return []
        base = stream.time_base
    return [float(stamp * base) for stamp in sorted(stamps)] if base else []
