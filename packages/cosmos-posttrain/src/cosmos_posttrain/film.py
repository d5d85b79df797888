"""Crops of a film as training clips: shots found by frame difference, then every crop read in one streaming pass."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image

from cosmos_tokenizer import InputError

CUT = 18.0
"""Least mean absolute difference of neighbouring 64x36 grey frames, of 255, across a cut."""
DARK = 8.0
"""A shot whose grey levels deviate less than this is black, a title or a fade."""
LONG = 400
"""Frames of a shot that count when shots are drawn, so that long ones (closing credits) do not fill the pool."""

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """A film at a glance: its frame size in pixels and every frame as a small grey picture."""

    width: int
    height: int
    grey: UInt8[Array, "N 36 64"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """Frames `start` to `end` (exclusive)."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """A square of `side` pixels at (x, y) in frames start, start + stride, …"""

    start: int
    stride: int
    x: float
    y: float
    side: float


def scan(path: Path, *, seen: Callable[[float], None] = lambda share: None) -> Scan:
    """One pass over the film; `seen` is told each frame's share of it, 0 where the file gives no length."""
    with opened(path) as container:
        stream = video_stream(container, path)
        grey = []
        for frame in container.decode(stream):
            grey.append(frame.reformat(width=64, height=36, format="gray").to_ndarray())
            seen(1 / stream.frames if stream.frames else 0.0)
        if not grey:
            raise InputError(f"{path} has no frames")
        return Scan(width=stream.width, height=stream.height, grey=np.stack(grey))


def find_shots(grey: UInt8[Array, "N 36 64"]) -> list[Shot]:
    """Shots between hard cuts, without the near-black ones."""
    bounds = [0, *find_cuts(grey), len(grey)]
    spans = zip(bounds[:-1], bounds[1:], strict=True)
    return [Shot(start=a, end=b) for a, b in spans if max(x.std() for x in grey[a:b]) >= DARK]


def find_cuts(grey: UInt8[Array, "T H W"]) -> list[int]:
    """Frames that differ from the one before by far more than their neighbours do: fast motion is no cut."""
    change = np.abs(np.diff(grey.astype(np.float32), axis=0)).mean(axis=(1, 2))
    padded = np.pad(change, 1)
    around = np.maximum(padded[:-2], padded[2:])
    return [int(i) + 1 for i in np.flatnonzero((change > CUT) & (change > 2 * around))]


def plan_crops(film: Scan, shots: Sequence[Shot], count: int, rng: Generator, *, frames: int, size: int) -> list[Crop]:
    """`count` random crops, each within one shot, the more contrasty of two draws: sky and blank fur teach little."""
    room = {stride: np.array([max(0, s.end - s.start - (frames - 1) * stride) for s in shots]) for stride in (1, 2)}
    if not room[1].any():
        raise InputError(f"no shot of the film is {frames} frames long")
    crops = []
    for _ in range(count):
        stride = 2 if rng.random() < 0.3 and room[2].any() else 1
        weight = np.minimum(room[stride], LONG)
        chosen = int(rng.choice(len(shots), p=weight / weight.sum()))
        start = int(shots[chosen].start + rng.integers(room[stride][chosen]))
        pair = [draw_crop(film, rng, start=start, stride=stride, size=size) for _ in range(2)]
        crops.append(max(pair, key=lambda crop: preview_contrast(film, crop)))
    return crops


def draw_crop(film: Scan, rng: Generator, *, start: int, stride: int, size: int) -> Crop:
    """A square that will be shrunk 1 to 5 times, rather more than less."""
    largest = max(1.0, min(5.0, film.width / size, film.height / size))
    side = size * math.exp(math.log(largest) * rng.random() ** 0.7)
    x, y = float(rng.uniform(0, film.width - side)), float(rng.uniform(0, film.height - side))
    return Crop(start=start, stride=stride, x=x, y=y, side=side)


def preview_contrast(film: Scan, crop: Crop) -> float:
    """Deviation of grey values inside a crop, on the small preview of its first frame."""
    across, down = film.grey.shape[2] / film.width, film.grey.shape[1] / film.height
    rows = slice(int(crop.y * down), math.ceil((crop.y + crop.side) * down))
    columns = slice(int(crop.x * across), math.ceil((crop.x + crop.side) * across))
    return float(film.grey[crop.start, rows, columns].std())


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """A video file, for as long as it is read; what cannot be decoded is an InputError."""
    try:
        with av.open(str(path)) as container:
            yield container
    except FFmpegError as error:
        raise InputError(f"{path} cannot be read as a video ({error.strerror}); fetch it again") from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """First video stream, decoded on several threads."""
    if not container.streams.video:
        raise InputError(f"{path} has no video stream")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def read_crops(
    path: Path, crops: Sequence[Crop], *, frames: int, size: int
) -> Iterator[tuple[Crop, UInt8[Array, "T H W 3"]]]:
    """Each crop's frames, shrunk with a Lanczos filter, in the order in which they end; one pass over the film."""
    waiting = sorted(crops, key=lambda crop: crop.start, reverse=True)
    active: list[tuple[Crop, Array]] = []
    with opened(path) as container:
        for number, frame in enumerate(container.decode(video_stream(container, path))):
            while waiting and waiting[-1].start == number:
                active.append((waiting.pop(), np.empty((frames, size, size, 3), np.uint8)))
            if not active:
                if not waiting:
                    return
                continue
            image = frame.to_image()
            for crop, out in active:
                t, rest = divmod(number - crop.start, crop.stride)
                if not rest:
                    box = (crop.x, crop.y, crop.x + crop.side, crop.y + crop.side)
                    out[t] = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box))
            last = [crop.start + (frames - 1) * crop.stride == number for crop, _ in active]
            yield from (pair for pair, ended in zip(active, last, strict=True) if ended)
            active = [pair for pair, ended in zip(active, last, strict=True) if not ended]
