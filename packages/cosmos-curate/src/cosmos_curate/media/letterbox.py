"""Black bars around a picture: those that hold still over the whole video, and end at a sharp edge."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from jaxtyping import Bool, Float64, UInt8

from cosmos_curate.media.choosing import chosen
from cosmos_curate.media.frames import Sampling
from cosmos_curate.media.picture import Picture, orientation
from cosmos_curate.media.reading import Index, decode, open_video, pixel_aspect

FRAMES = 24
"""Frames looked at, spread over the video."""

_BLACK_MEAN, _BLACK_PIXEL, _STRAY = 6, 16, 0.1  # of a line of pixels in a bar: mean, and share that may be brighter
_LIT = 24  # mean of a line of picture at a bar's edge
_SOFT = 5  # lines over which compression may blur the edge
_SMALLEST = 4  # pixels of a bar
_LEAST = 3  # frames that must agree, and a third of all that are not dark
_REMAINS = 0.25  # of each side of the picture


class _Lines(NamedTuple):
    """Lines of pixels of one frame from one side inwards."""

    black: Bool[np.ndarray, "N"]
    mean: Float64[np.ndarray, "N"]


class _Sides(NamedTuple):
    """The lines of one frame, from each side."""

    left: _Lines
    top: _Lines
    right: _Lines
    bottom: _Lines


def letterbox(pictures: Iterable[UInt8[np.ndarray, "H W 1"]]) -> list[int] | None:
    """Return the bars' widths [left, top, right, bottom]; None for none, or where the frames leave a doubt.

    Dark frames say nothing. A side has a bar where its black lines are as many in a third of the other frames at
    least, end sharply there, and are fewer in none: the edge of a night sky wanders, and a bar's does not.

    Args:
        pictures: full-range luma of frames from all over the video.
    """
    return _common([_sides(picture) for picture in pictures])


def find_letterbox(path: Path | str, index: Index) -> list[int] | None:
    """Return the bars of a video, as `letterbox` does, from its keyframes if it has enough, else from all of it.

    Raises:
        Unusable: see `decode`.
    """
    keyframes = [_sides(picture) for picture in _keyframes(path, index)]
    if len(keyframes) >= FRAMES // 2:
        return _common(keyframes)
    picks = chosen(index.times_s, Sampling(most=FRAMES))
    with closing(decode(path)) as frames:
        return _common([_sides(s.picture.pixels(gray=True)) for i, s in enumerate(frames) if i in picks])


def _keyframes(path: Path | str, index: Index) -> Iterator[UInt8[np.ndarray, "H W 1"]]:
    """Yield the luma of the different keyframes before some evenly spread times."""
    container, stream = open_video(path)
    convert, seen = VideoReformatter(), set()
    base = stream.time_base
    with container:
        stream.thread_type = "NONE"
        if not base or not index.times_s:
            return
        for pick in sorted(chosen(index.times_s, Sampling(most=FRAMES))):
            try:
                container.seek(round(index.times_s[pick] / base), stream=stream)
                packet = next((p for p in container.demux(stream) if p.size and p.is_keyframe), None)
                if packet is None or packet.pts in seen:
                    continue
                seen.add(packet.pts)
                frames = [*packet.decode(), *stream.codec_context.decode(None)]
            except FFmpegError:
                return
            for frame in frames[:1]:
                yield Picture(frame, orientation(frame, pixel_aspect(stream)), convert).pixels(gray=True)


def _common(frames: list[_Sides]) -> list[int] | None:
    seen = [sides for sides in frames if max(sides.left.mean.max(), sides.top.mean.max()) > _LIT]
    if len(seen) < _LEAST:
        return None
    left, top, right, bottom = (_bar([sides[side] for sides in seen]) for side in range(4))
    height, width = len(seen[0].top.mean), len(seen[0].left.mean)
    if height - top - bottom < _REMAINS * height or width - left - right < _REMAINS * width:
        return None
    return [left, top, right, bottom] if left or top or right or bottom else None


def _sides(picture: UInt8[np.ndarray, "H W 1"]) -> _Sides:
    luma = picture[..., 0]
    bright = luma > _BLACK_PIXEL
    across = _lines(luma.mean(0), bright.mean(0))
    down = _lines(luma.mean(1), bright.mean(1))
    return _Sides(across, down, _Lines(*(a[::-1] for a in across)), _Lines(*(a[::-1] for a in down)))


def _lines(mean: Float64[np.ndarray, "N"], stray: Float64[np.ndarray, "N"]) -> _Lines:
    return _Lines((mean <= _BLACK_MEAN) & (stray <= _STRAY), mean)


def _bar(frames: list[_Lines]) -> int:
    runs = [len(f.black) if f.black.all() else int(np.argmin(f.black)) for f in frames]
    least = min(runs)
    edges = []
    for run, lines in zip(runs, frames, strict=True):
        lit = np.flatnonzero(lines.mean[run : run + _SOFT] > _LIT)
        if run < least + _SOFT and lit.size:
            edges.append(run + int(lit[0]))
    if least < _SMALLEST or len(edges) < max(_LEAST, len(frames) / 3):
        return 0
    return min(edges)
