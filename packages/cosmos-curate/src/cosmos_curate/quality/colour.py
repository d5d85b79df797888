"""Brightness, and colorfulness (Hasler and Suesstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003)."""

import numpy as np
from jaxtyping import Float32, UInt8

_LUMA = np.array([0.2125, 0.7154, 0.0721], np.float32)


def luma(picture: UInt8[np.ndarray, "H W C"]) -> Float32[np.ndarray, "H W"]:
    """Return the luma (BT.709) of an RGB or one-channel picture, 0 to 255."""
    if picture.shape[2] == 1:
        return picture[..., 0].astype(np.float32)
    return picture.astype(np.float32) @ _LUMA


def colorfulness(picture: UInt8[np.ndarray, "H W C"]) -> float:
    """Return their M3 of an RGB picture: 0 for gray, 15 for slightly, 45 for quite, 109 for extremely colourful.

    The spread of red - green and yellow - blue, plus 0.3 times the distance of their mean from gray.
    """
    if picture.shape[2] == 1:
        return 0.0
    red, green, blue = np.moveaxis(picture.astype(np.float32), 2, 0)
    one, other = red - green, (red + green) / 2 - blue
    spread = np.hypot(one.std(dtype=np.float64), other.std(dtype=np.float64))
    return float(spread + 0.3 * np.hypot(one.mean(dtype=np.float64), other.mean(dtype=np.float64)))
