"""Deviation of white noise, by a second difference that ignores edges (Immerkaer, CVIU 64(2), 1996).

Taken over the quietest tenth of the picture's blocks, since texture answers to the mask as noise does.
"""

import math

import numpy as np
from jaxtyping import Float32

_BLOCK = 16


def noise_deviation(luma: Float32[np.ndarray, "H W"]) -> float:
    """Return the deviation of noise in levels of luma; 16 pixels a side at least."""
    import cv2

    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    answer = np.abs(cv2.filter2D(luma, cv2.CV_32F, mask))
    rows, columns = (side // _BLOCK for side in luma.shape)
    blocks = answer[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).mean((1, 3))
    return float(np.quantile(blocks, 0.1)) * math.sqrt(math.pi / 2)
