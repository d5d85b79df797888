"""What is taken of a sample: a window in time, a crop in space, mirrored or backwards; drawn from one seed.

Frames are scaled by their short side to the bucket's and then cropped at random; a share of crops is taken from
frames as they are. Nothing is padded.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image

from cosmos_posttrain.data.buckets import Shape
from cosmos_posttrain.data.config import StreamConfig
from cosmos_posttrain.data.source import Source
from cosmos_tokenizer import InputError

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """Frames as they go into a batch, uint8, with the caption and the frames per second of what was taken."""

    frames: UInt8[np.ndarray, "T H W 3"]
    key: str
    text: str | None
    rate: float | None


def take_view(source: Source, index: int, seed: int, shape: Shape, config: StreamConfig) -> View:
    """Read a random view of a sample in the given shape; the same for the same seed.

    Raises:
        InputError: the sample cannot be read.
    """
    rng = np.random.default_rng(seed)
    about = source.describe(index)
    steps = [step for step in config.steps if (shape.frames - 1) * step < about.frames]
    if not steps:
        raise InputError(f"{about.key}: has {about.frames} frames, too few for {shape.frames}")
    step = int(rng.choice(steps))
    first = int(rng.integers(about.frames - (shape.frames - 1) * step))
    mirrored, backwards, unscaled = rng.random(3) < (config.flip, config.reverse, config.unscaled)
    frames_THWC = source.read(index, first, shape.frames, step)
    size = frames_THWC.shape[1:3]
    whole = config.crop is None
    box = draw_box(size, shape, rng, unscaled=bool(unscaled) and not whole, whole=whole)
    out_THWC = crop(frames_THWC, box, (shape.height, shape.width))
    if mirrored:
        out_THWC = out_THWC[:, :, ::-1]
    if backwards:
        out_THWC = out_THWC[::-1]
    rate = None if about.rate is None or shape.frames == 1 else about.rate / step
    return View(frames=np.ascontiguousarray(out_THWC), key=about.key, text=about.text, rate=rate)


def draw_box(size: tuple[int, int], shape: Shape, rng: Generator | None, *, unscaled: bool, whole: bool) -> Box:
    """Draw the part of a frame of `size` (height, width) that becomes the crop.

    Args:
        size: of the frame.
        shape: of the crop, and the short side that frames are scaled to.
        rng: says where it lies; None takes the middle.
        unscaled: take as many pixels as the crop has, where the frame has them.
        whole: scale the frame no larger than it needs to be to cover the crop, instead of to the shape's short side.
    """
    height, width = size
    if unscaled and height >= shape.height and width >= shape.width:
        scale = 1.0
    elif whole:
        scale = max(shape.height / height, shape.width / width)
    else:
        scale = shape.side / min(height, width)
    # Offsets are whole pixels of the scaled frame, as if it were scaled first and cropped then.
    room = [max(0, int(n * scale + 1e-6) - taken) for n, taken in ((height, shape.height), (width, shape.width))]
    y, x = ((most // 2 if rng is None else int(rng.integers(most + 1))) / scale for most in room)
    right, bottom = min(float(width), x + shape.width / scale), min(float(height), y + shape.height / scale)
    return x, y, right, bottom


def crop(frames_THWC: UInt8[np.ndarray, "T h w 3"], box: Box, size: tuple[int, int]) -> UInt8[np.ndarray, "T H W 3"]:
    """Scale the box of each frame to `size` (height, width) with a Lanczos filter; copy it where it has that size."""
    height, width = size
    x, y, right, bottom = box
    if (right - x, bottom - y) == (width, height) and x == int(x) and y == int(y):
        return frames_THWC[:, int(y) : int(bottom), int(x) : int(right)]
    out_THWC = np.empty((len(frames_THWC), height, width, 3), np.uint8)
    for out_HWC, frame_HWC in zip(out_THWC, frames_THWC, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(frame_HWC))
        out_HWC[:] = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, box=box))
    return out_THWC
