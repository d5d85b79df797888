"""Videos with exact truth: real footage spliced by cuts, dissolves and fades through black.

Segments are taken from the videos in turn, in order, wherever no frame differs much from the one before, so that they
hold no cut of their own; and a segment follows another only where the two differ to the eye. Both are judged by the
mean change of luma at 48x27 pixels, which none of the detectors works with.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from cosmos_curate.errors import InputError
from cosmos_curate.media.picture import Picture
from cosmos_curate.media.reading import decode
from cosmos_curate.shotbench.labels import Labelled
from cosmos_curate.shotbench.protocol import Transition

SPLICES = ("cut", "dissolve", "fade")
HEIGHT, WIDTH, RATE = 180, 320, 25
STILL, APART = 10.0, 20.0
"""Mean change of luma, of 255: at most so much within a segment, at least so much across a splice."""
SEGMENT = 50, 80
DISSOLVE, FADE, BLACK = (6, 18), (6, 16), (0, 4)
"""Frames, fewest and most."""
_TRIES = 20


def splice(videos: Sequence[Path], folder: Path, *, count: int = 20, seed: int = 0) -> list[Labelled]:
    """Write one video of each of SPLICES into the folder and return them with their truth.

    Args:
        videos: footage, taken in turn and again from its start as long as it is needed.
        count: transitions in each video.
        seed: of lengths and of what is left out between segments; equal seeds give equal videos.

    Raises:
        InputError: no footage, or none without cuts, or all of it alike.
        Unusable: a video does not decode.
    """
    if not videos or count < 1:
        raise InputError(f"{len(videos)} videos and {count} transitions: give at least one of either")
    out = []
    for index, kind in enumerate(SPLICES):
        rng = np.random.default_rng([seed, index])
        path = folder / f"{kind}.mkv"
        truth = _write(path, _spliced(kind, _alternating(videos, rng), count, rng))
        out.append(Labelled(video=path, group=kind, transitions=truth))
    return out


def _write(path: Path, pieces: Iterator[np.ndarray | Transition]) -> list[Transition]:
    truth, at = [], 0
    # Lossless and without random identifiers: equal frames are equal bytes.
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=RATE, options={"flags": "+bitexact"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = base = Fraction(1, RATE)
        for piece in pieces:
            if isinstance(piece, Transition):
                truth.append(Transition(at + piece.before, at + piece.after))
                continue
            for pixels in piece:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = at, base
                container.mux(stream.encode(frame))
                at += 1
        container.mux(stream.encode())
    return truth


def _spliced(
    kind: str, segments: Iterator[np.ndarray], count: int, rng: np.random.Generator
) -> Iterator[np.ndarray | Transition]:
    """Yield frames, and transitions counted from the next frame, each before its own frames."""
    one = next(segments)
    for _ in range(count):
        other = _unlike(one, segments)
        if kind == "cut":
            yield one
            between = np.empty((0, HEIGHT, WIDTH, 3), np.uint8)
        elif kind == "dissolve":
            n = int(rng.integers(DISSOLVE[0], DISSOLVE[1] + 1))
            yield one[:-n]
            share = (np.arange(1, n + 1, dtype=np.float32) / (n + 1))[:, None, None, None]
            between = np.rint(one[-n:] * (1 - share) + other[:n] * share).astype(np.uint8)
            other = other[n:]
        else:
            out, into = (int(n) for n in rng.integers(FADE[0], FADE[1] + 1, 2))
            black = np.zeros((int(rng.integers(BLACK[0], BLACK[1] + 1)), HEIGHT, WIDTH, 3), np.uint8)
            yield one[:-out]
            between = np.concatenate([_dimmed(one[-out:]), black, _dimmed(other[:into][::-1])[::-1]])
            other = other[into:]
        yield Transition(-1, len(between))
        yield between
        one = other
    yield one


def _dimmed(frames: np.ndarray) -> np.ndarray:
    share = 1 - np.arange(1, len(frames) + 1, dtype=np.float32) / (len(frames) + 1)
    return np.rint(frames * share[:, None, None, None]).astype(np.uint8)


def _unlike(one: np.ndarray, segments: Iterator[np.ndarray]) -> np.ndarray:
    for _ in range(_TRIES):
        other = next(segments)
        if _change(_luma(one[-1]), _luma(other[0])) >= APART:
            return other
    raise InputError(f"{_TRIES} segments in a row look alike: give more videos, or others")


def _alternating(videos: Sequence[Path], rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "T H W 3"]]:
    sources = [_segments(video, rng) for video in videos]
    while True:
        for source in sources:
            yield next(source)


def _segments(video: Path, rng: np.random.Generator) -> Iterator[UInt8[np.ndarray, "T H W 3"]]:
    while True:
        found = False
        length, skip = int(rng.integers(SEGMENT[0], SEGMENT[1] + 1)), 0
        kept: list[np.ndarray] = []
        before = None
        for pixels in _frames(video):
            luma = None if pixels is None else _luma(pixels)
            if before is not None and (luma is None or _change(before, luma) > STILL):
                if len(kept) < SEGMENT[0]:
                    kept.clear()
                else:
                    length = len(kept)
            if len(kept) == length:
                found = True
                yield np.stack(kept)
                kept.clear()
                length, skip = int(rng.integers(SEGMENT[0], SEGMENT[1] + 1)), int(rng.integers(SEGMENT[1]))
            before = luma
            if skip or pixels is None:
                skip -= 1
                continue
            kept.append(pixels)
        if not found:
            raise InputError(f"{video} has no {SEGMENT[0]} frames in a row without a cut: give others")


def _frames(video: Path) -> Iterator[UInt8[np.ndarray, "H W 3"] | None]:
    """Yield a video's frames as the splices have them, and None behind the last."""
    for shown in decode(video):
        yield _framed(shown.picture)
    yield None


def _framed(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """Return the middle of the picture in the splices' size and shape."""
    scale = max(HEIGHT / picture.height, WIDTH / picture.width)
    height, width = max(HEIGHT, round(picture.height * scale)), max(WIDTH, round(picture.width * scale))
    top, left = (height - HEIGHT) // 2, (width - WIDTH) // 2
    return np.ascontiguousarray(picture.pixels((height, width))[top : top + HEIGHT, left : left + WIDTH])


def _luma(pixels: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
    import cv2

    small = cv2.resize(pixels, (48, 27), interpolation=cv2.INTER_AREA)
    return small @ np.array([0.299, 0.587, 0.114], np.float32)


def _change(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())
