"""Which samples may share a batch: buckets by medium, resolution, aspect and length (arXiv 2501.03575, section 3.5).

Resolution goes by the short side. The aspects' edges, in width over height, are those of the open curation code, open
at both ends.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cosmos_posttrain.data.config import StreamConfig
from cosmos_posttrain.data.source import Description, Source
from cosmos_tokenizer import InputError

ASPECTS = ((9, 16), (3, 4), (1, 1), (4, 3), (16, 9))
"""Width to height of the five kinds of frames."""
ASPECT_EDGES = (0.65, 0.88, 1.16, 1.55)
"""Width over height at which one kind ends and the next begins."""

Media = Literal["video", "image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What stacks: frames x height x width of the crops, and the short side to which frames are scaled before."""

    media: Media
    side: int
    frames: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Of one sample, frames included."""
        return self.frames * self.height * self.width


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bucket:
    """Samples of one shape by their numbers in the source, and how many make a global batch."""

    shape: Shape
    samples: np.ndarray
    batch: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sorted:
    """Samples of a source in their buckets; what was left out, for being too short or unreadable."""

    buckets: tuple[Bucket, ...]
    digest: bytes
    """Of the keys of the samples that are in them."""
    short: int
    broken: int


def sort_samples(source: Source, config: StreamConfig, say: Callable[[str], None]) -> Sorted:
    """Put every sample that is long enough into its bucket.

    Raises:
        InputError: none is long enough, or none can be read.
    """
    videos, pictures = dict[Shape, list[int]](), dict[Shape, list[int]]()
    short, broken, keys = list[Description](), list[str](), hashlib.sha256()
    least = (min(config.frames) - 1) * min(config.steps) + 1
    small = 0
    for index in range(len(source)):
        try:
            about = source.describe(index)
        except InputError as error:
            broken.append(str(error))
            continue
        if about.frames >= least and least > 1:
            videos.setdefault(shape_of(about, config), []).append(index)
        elif about.rate is None and about.frames == 1 or least == 1:
            pictures.setdefault(shape_of(about, config, still=True), []).append(index)
        else:
            short.append(about)
            continue
        small += min(about.height, about.width) < min(config.sides)
        keys.update(about.key.encode("utf-8", "surrogateescape") + b"\0")
    _check(len(source), videos, pictures, short, broken, config, least)
    for reason in broken:
        say(f"skipped: {reason}")
    if short:
        longest = max(short, key=lambda about: about.frames)
        say(
            f"{len(short)} of {len(source)} samples have fewer than {least} frames and are left out; the longest of "
            f"them, {longest.key}, has {longest.frames}"
        )
    if small:
        say(f"{small} of {len(source)} samples are smaller than {min(config.sides)} pixels and are scaled up")
    if least > 1 and config.images == 0:
        pictures = {}
    elif least > 1 and config.images and not pictures:
        for shape, samples in videos.items():
            still = Shape(media="image", side=shape.side, frames=1, height=shape.height, width=shape.width)
            pictures.setdefault(still, []).extend(samples)
    shapes = videos | pictures
    most = max(shape.pixels for shape in shapes)
    buckets = tuple(
        Bucket(shape=shape, samples=np.array(samples), batch=batch_size(shape, most, len(samples), config))
        for shape, samples in sorted(shapes.items(), key=lambda item: _order(item[0]))
    )
    return Sorted(buckets=buckets, digest=keys.digest(), short=len(short), broken=len(broken))


def shape_of(about: Description, config: StreamConfig, *, still: bool = False) -> Shape:
    """Return the shape to which a sample is brought; with `still`, one frame of it."""
    step, least = min(config.steps), min(config.frames)
    frames = max(t for t in config.frames if (t - 1) * step < about.frames or t == least)
    short = min(about.height, about.width)
    side = max(s for s in config.sides if s <= short or s == min(config.sides))
    height, width = (config.crop,) * 2 if config.crop else frame_size(side, about.width / about.height, config.multiple)
    return Shape(
        media="image" if still else "video", side=side, frames=1 if still else frames, height=height, width=width
    )


def frame_size(side: int, aspect: float, multiple: int) -> tuple[int, int]:
    """Return height and width, multiples of `multiple`, of the aspect's kind at a short side of `side`."""
    across, down = ASPECTS[bisect_right(ASPECT_EDGES, aspect)]
    long = max(side, round(side * max(across, down) / min(across, down) / multiple) * multiple)
    return (side, long) if across >= down else (long, side)


def batch_size(shape: Shape, most: int, samples: int, config: StreamConfig) -> int:
    """Return the global batch of a bucket: a multiple of `config.batch`, for about the pixels of the largest's.

    It is no larger than it takes to have all `samples` in one, so that few are taken twice.
    """
    if shape.media == "image" and config.image_batch is not None:
        return config.image_batch
    return config.batch * max(1, min(most // shape.pixels, -(-samples // config.batch)))


def _check(
    count: int,
    videos: dict[Shape, list[int]],
    pictures: dict[Shape, list[int]],
    short: list[Description],
    broken: list[str],
    config: StreamConfig,
    least: int,
) -> None:
    if videos or (pictures and least == 1):
        return
    if not short and not pictures:
        raise InputError(f"none of the {count} samples can be read; the first: {broken[0]}")
    asked = f"{min(config.frames)} frames at a step of {min(config.steps)}"
    if not short:
        raise InputError(f"there are pictures alone, and clips of {asked} were asked; ask for 1, or add clips")
    longest = max(short, key=lambda about: about.frames)
    most = (longest.frames - 1) // min(config.steps) + 1
    raise InputError(
        f"no clip has {asked}; the longest, {longest.key}, has {longest.frames}: ask for {most} frames at most, "
        "or give longer clips"
    )


def _order(shape: Shape) -> tuple[str, int, int, int, int]:
    return shape.media, shape.side, shape.height, shape.width, shape.frames
