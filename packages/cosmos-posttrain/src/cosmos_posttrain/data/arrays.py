"""Clips kept as arrays, in NumPy's .npy format: 8-bit frames, or floats in [-1, 1]; read a window at a time."""

import math
from io import BufferedIOBase

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy.lib import format as npy

from cosmos_posttrain.data.stored import Stored
from cosmos_tokenizer import InputError

_FRAMES_THWC = 4


def array_shape(stored: Stored) -> tuple[int, int, int]:
    """Return frames, height and width of a clip (T, H, W, 3), or of a picture (H, W, 3).

    Raises:
        InputError: the file is no such array, or is damaged.
    """
    with stored.open() as file:
        shape, _ = _header(file, stored)
    frames, height, width, _ = shape
    return frames, height, width


def read_array(stored: Stored, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Read frames `first`, `first + step` and so on of a clip.

    Raises:
        InputError: as `array_shape`; or one of these frames is not there, or has a value that is no colour.
    """
    with stored.open() as file:
        (frames, *size), dtype = _header(file, stored)
        if first + (count - 1) * step >= frames:
            raise InputError(f"{stored.name}: has {frames} frames, and frame {first + (count - 1) * step} was asked")
        start, each = file.tell(), math.prod(size) * dtype.itemsize
        window = np.empty((count, *size), dtype)
        for slot in range(count):
            file.seek(start + (first + slot * step) * each)
            data = file.read(each)
            if len(data) < each:
                raise InputError(f"{stored.name}: is cut short; copy it again")
            window[slot] = np.frombuffer(data, dtype).reshape(size)
    return as_colours(window, stored.name)


def as_colours(frames: Shaped[np.ndarray, "*any"], name: str) -> UInt8[np.ndarray, "*any"]:
    """Return 8-bit frames as they are, and floats in [-1, 1] as 8-bit ones, rounded to nearest.

    Raises:
        InputError: a value is NaN, infinite or outside [-1, 1].
    """
    if frames.dtype == np.uint8:
        return frames
    if not np.isfinite(frames).all():
        raise InputError(f"{name}: holds NaN or infinite pixels; make it again")
    if np.abs(frames).max(initial=0) > 1:
        raise InputError(f"{name}: holds floats outside [-1, 1]; scale them, or save it as 8 bits")
    return np.rint((frames.astype(np.float32) + 1) * 127.5).astype(np.uint8)


def is_frames(dtype: np.dtype, shape: tuple[int, ...], axes: int) -> bool:
    """Tell whether an array of so many axes holds frames: 8-bit or floating-point, the last axis RGB."""
    return (dtype == np.uint8 or dtype.kind == "f") and len(shape) == axes and shape[-1] == 3 and 0 not in shape


def _header(file: BufferedIOBase, stored: Stored) -> tuple[tuple[int, ...], np.dtype]:
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
        shape, column_major, dtype = read(file)
    except (ValueError, KeyError, EOFError) as error:
        raise InputError(f"{stored.name}: is damaged or no .npy file; make it again") from error
    if len(shape) == _FRAMES_THWC - 1:
        shape = (1, *shape)
    if column_major or not is_frames(dtype, shape, _FRAMES_THWC):
        raise InputError(
            f"{stored.name}: holds {dtype} {shape}, and a clip is uint8 or floats (T, H, W, 3) in C order; convert it"
        )
    return shape, dtype
