"""Boxes around text: corners, bounds, areas, overlap, and where in the picture they lie."""

import numpy as np
from jaxtyping import Float32, Float64

_TOP, _BOTTOM = 0.15, 0.8


def bounds(quads: Float32[np.ndarray, "N 4 2"]) -> Float32[np.ndarray, "N 4"]:
    """Return left, top, right and bottom of each box."""
    return np.concatenate([quads.min(1), quads.max(1)], 1)


def areas(quads: Float32[np.ndarray, "N 4 2"]) -> Float64[np.ndarray, "N"]:
    """Return the area of each box, turned ones included."""
    x, y = np.moveaxis(quads.astype(np.float64), 2, 0)
    return np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2


def overlap(one: Float32[np.ndarray, "4"], other: Float32[np.ndarray, "4"]) -> float:
    """Return intersection over union of two upright boxes."""
    width, height = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    return shared / float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared)


def in_margin(box: Float32[np.ndarray, "4"], height: int) -> bool:
    """Whether the box's middle is where logos and subtitles go: the top 15 % or the bottom 20 % of the picture."""
    middle = float(box[1] + box[3]) / 2 / height
    return middle < _TOP or middle > _BOTTOM


def same_line(one: Float32[np.ndarray, "4"], other: Float32[np.ndarray, "4"], size: tuple[int, int]) -> bool:
    """Whether both are lines of one subtitle: equal height in the margin, same middle or same left edge.

    Args:
        size: height and width of the picture.
    """
    height, width = size
    if not (in_margin(one, height) and in_margin(other, height)):
        return False
    level = float(np.abs(one[[1, 3]] - other[[1, 3]]).max()) <= max(0.15 * float(one[3] - one[1]), 2)
    side = min(abs(float(one[0] - other[0])), abs(float(one[0] + one[2] - other[0] - other[2])) / 2)
    return level and side <= 0.01 * width
