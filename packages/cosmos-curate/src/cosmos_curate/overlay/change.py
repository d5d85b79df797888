"""What changed between samples of a clip: cells of the picture around text, and whether text itself stayed in place."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

_CELL = 8
_LONG_SIDE = 320
_CHANGED = 6.0
_FLAT = 4.0
_CARD = 1.5
_REACH = 12
_ALIKE = 0.5


@dataclass(frozen=True, eq=False)
class Cells:
    """Samples reduced to 320 pixels on the longer side, in cells of 8 x 8.

    Args:
        levels: luma of each pixel of each cell.
        spread: standard deviation in each cell.
        scale: cells a pixel of the sample, across and down.
    """

    levels: Float32[np.ndarray, "T R C 64"]
    spread: Float32[np.ndarray, "T R C"]
    scale: tuple[float, float]


def cells(lumas: UInt8[np.ndarray, "T H W"]) -> Cells:
    """Cut samples into cells, at least one each way; rows and columns beyond the last whole cell are left out."""
    import cv2

    height, width = lumas.shape[1:]
    scale = min(1.0, _LONG_SIDE / max(height, width))
    columns, rows = (max(round(side * scale) // _CELL, 1) for side in (width, height))
    size = (columns * _CELL, rows * _CELL)
    small = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in lumas]).astype(np.float32)
    levels = small.reshape(-1, rows, _CELL, columns, _CELL).swapaxes(2, 3).reshape(-1, rows, columns, _CELL**2)
    return Cells(levels=levels, spread=levels.std(3), scale=(columns / width, rows / height))


def covered(found: Cells, boxes: Float32[np.ndarray, "N 4"], grown: float = 0) -> Bool[np.ndarray, "R C"]:
    """Return the cells that any of the boxes touches, each grown by so many of its heights, and 8 pixels."""
    mask = np.zeros(found.spread.shape[1:], bool)
    across, down = found.scale
    for left, top, right, bottom in boxes.tolist():
        extra = grown * (bottom - top) + (_CELL if grown else 0)
        rows = slice(max(int((top - extra) * down), 0), int(np.ceil((bottom + extra) * down)))
        columns = slice(max(int((left - extra) * across), 0), int(np.ceil((right + extra) * across)))
        mask[rows, columns] = True
    return mask


def changed_share(
    found: Cells, one: int, other: int, text: Bool[np.ndarray, "R C"], around: Bool[np.ndarray, "R C"] | None = None
) -> float:
    """Return the share of cells that show something, not text, whose pattern differs between two samples; 0 for none.

    A cell's mean is taken off first: light that changes is no motion. Flat cells prove nothing either way.
    """
    counted = ~text & (np.maximum(found.spread[one], found.spread[other]) > _FLAT)
    if around is not None:
        counted &= around
    if not counted.any():
        return 0.0
    difference = found.levels[one][counted] - found.levels[other][counted]
    difference -= difference.mean(1, keepdims=True)
    return float((np.abs(difference).mean(1) > _CHANGED).mean())


def is_card(found: Cells, sample: int, text: Bool[np.ndarray, "R C"]) -> bool:
    """Whether a sample is text upon an even ground: 95 % of the cells without text are flat."""
    return bool((~text).any()) and float((found.spread[sample][~text] < _CARD).mean()) >= 0.95


def shift(
    one: UInt8[np.ndarray, "H W"], other: UInt8[np.ndarray, "H W"], box: Float32[np.ndarray, "4"]
) -> tuple[int, int] | None:
    """Return by how many pixels, right and down, what was in the box has moved from one sample to another.

    Strokes are compared, as gradients, so that what moves behind transparent text counts less.

    Returns:
        None where nothing alike is found within 12 pixels.
    """
    import cv2

    height, width = one.shape
    left, top = (max(int(v), 0) for v in box[:2])
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    if right - left < 4 or bottom - top < 4:
        return None
    first, up = max(left - _REACH, 0), max(top - _REACH, 0)
    sought = _strokes(one[top:bottom, left:right])
    within = _strokes(other[up : bottom + _REACH, first : right + _REACH])
    if float(sought.std()) == 0:
        return None
    alike = cv2.matchTemplate(within, sought, cv2.TM_CCOEFF_NORMED)
    row, column = divmod(int(np.argmax(alike)), alike.shape[1])
    if not alike[row, column] >= _ALIKE:
        return None
    return first + column - left, up + row - top


def _strokes(luma: UInt8[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    import cv2

    return cv2.magnitude(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))
