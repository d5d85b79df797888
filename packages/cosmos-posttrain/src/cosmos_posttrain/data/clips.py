"""One door for what a sample can be: a video, a picture, or an array of frames; recognised by its suffix."""

import warnings
from pathlib import PurePath

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cosmos_posttrain.data.arrays import array_shape, read_array
from cosmos_posttrain.data.source import Description
from cosmos_posttrain.data.stored import Stored
from cosmos_posttrain.data.windows import read_window, video_shape
from cosmos_tokenizer import InputError
from cosmos_tokenizer.images import IMAGE_SUFFIXES, read_image
from cosmos_tokenizer.video import VIDEO_SUFFIXES

KINDS = (VIDEO_SUFFIXES, IMAGE_SUFFIXES, frozenset({".npy"}))
"""Suffixes of samples; where a sample has several such files, one of the earlier kind is taken."""

_SIDEWAYS = range(5, 9)  # EXIF orientations that exchange height and width
_ORIENTATION = 0x0112


def rank(name: str) -> int | None:
    """Return the place of a file's kind among `KINDS`; None where it is none of them."""
    suffix = PurePath(name).suffix.lower()
    return next((place for place, suffixes in enumerate(KINDS) if suffix in suffixes), None)


def describe_clip(stored: Stored, text: str | None) -> Description:
    """Return what the headers of a clip say.

    Raises:
        InputError: they cannot be read.
    """
    kind, rate = rank(stored.name), None
    if kind == 0:
        frames, height, width, rate = video_shape(stored)
    elif kind == 1:
        frames, (height, width) = 1, _picture_size(stored)
    else:
        frames, height, width = array_shape(stored)
    return Description(key=stored.name, frames=frames, height=height, width=width, rate=rate, text=text)


def read_clip(stored: Stored, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Read frames `first`, `first + step` and so on of a clip.

    Raises:
        InputError: it is broken or lacks one of these frames.
    """
    kind = rank(stored.name)
    if kind == 0:
        return read_window(stored, first, count, step)
    if kind == 2:
        return read_array(stored, first, count, step)
    if first or count != 1:
        raise InputError(f"{stored.name}: is a picture, and {count} frames were asked; name a clip")
    with stored.open() as file:
        return read_image(stored.name, file)[None]


def _picture_size(stored: Stored) -> tuple[int, int]:
    try:
        with warnings.catch_warnings(), stored.open() as file:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                sideways = picture.getexif().get(_ORIENTATION) in _SIDEWAYS
                return (picture.width, picture.height) if sideways else (picture.height, picture.width)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{stored.name}: is not a picture that can be read; give a PNG or a JPEG") from error
