"""Clips to validate on: centres of the first ones that can be read, cut as training cuts them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.data import Source, StreamConfig
from cosmos_tokenizer import InputError


def validation_clips(
    source: Source, data: StreamConfig, count: int, say: Callable[[str], None]
) -> list[tuple[int, UInt8[np.ndarray, "T H W 3"]]]:
    """The first clips of a source, each with its index there.

    Args:
        source: of the clips.
        data: longest length, and side of the square in the middle that is taken.
        count: how many.
        say: takes a line on each clip that cannot be read.
    """
    side = data.crop or max(data.sides)
    clips: list[tuple[int, np.ndarray]] = []
    for index in range(len(source)):
        if len(clips) == count:
            break
        try:
            frames = source.read(index, 0, min(max(data.frames), source.describe(index).frames), 1)
        except (InputError, OSError) as error:
            say(f"not validated on: {' '.join(str(error).split())}")
            continue
        top, left = (max(0, size - side) // 2 for size in frames.shape[1:3])
        clips.append((index, frames[:, top : top + side, left : left + side].copy()))  # the rest is let go
    return clips
