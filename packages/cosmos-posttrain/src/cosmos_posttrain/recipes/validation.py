"""Clips to validate on: middles of the first ones that training would take, cut and scaled as training does."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.data import Description, Source, StreamConfig
from cosmos_posttrain.data.buckets import shape_of
from cosmos_posttrain.data.views import crop, draw_box
from cosmos_tokenizer import InputError


def validation_clips(
    source: Source, data: StreamConfig, count: int, say: Callable[[str], None]
) -> list[tuple[int, UInt8[np.ndarray, "T H W 3"]]]:
    """The first clips of a source that training would take, each with its index there.

    Each has the longest of the lengths that it has frames for, from its first frame on, and the size of training's
    batches, out of the middle; it is scaled where it is smaller, or where training always scales. Pictures stay where
    training takes pictures.

    Args:
        source: of the clips.
        data: lengths and sizes of training's batches.
        count: how many.
        say: takes a line on each clip that cannot be read, and one on all that are too short.
    """
    data = replace(data, steps=(1,))
    least, short = min(data.frames), list[Description]()
    clips: list[tuple[int, np.ndarray]] = []
    for index in range(len(source)):
        if len(clips) == count:
            break
        try:
            about = source.describe(index)
            still = about.frames == 1 and about.rate is None or least == 1
            if about.frames < least and not (still and data.images != 0):
                short.append(about)
                continue
            clips.append((index, _middle(source, index, data, still=still)))
        except (InputError, OSError) as error:
            say(f"not validated on: {' '.join(str(error).split())}")
    if short:
        longest = max(short, key=lambda about: about.frames)
        say(
            f"not validated on: {len(short)} of fewer than {least} frames; the longest of them, {longest.key}, has "
            f"{longest.frames}"
        )
    return clips


def _middle(source: Source, index: int, data: StreamConfig, *, still: bool) -> UInt8[np.ndarray, "T H W 3"]:
    shape, whole = shape_of(source.describe(index), data, still=still), data.crop is None
    frames_THWC = source.read(index, 0, shape.frames, 1)
    box = draw_box(frames_THWC.shape[1:3], shape, None, unscaled=data.unscaled > 0 and not whole, whole=whole)
    return crop(frames_THWC, box, (shape.height, shape.width)).copy()  # the rest is let go
