"""Picture files to upright 8-bit RGB and back, through Pillow. Alpha is dropped and colour profiles are not applied."""

import io
import warnings
from pathlib import Path
from typing import IO, cast

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.errors import InputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
"""What is read as a picture; of an animated one, the first frame."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def is_image(path: Path | str) -> bool:
    """Tell by its name whether `path` is a picture; everything else is taken for a video."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path | str, file: io.BufferedIOBase | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Read a picture of any mode as RGB, turned upright by its EXIF orientation; 16-bit grey is scaled to 8 bits.

    With `file`, an open one, the picture is in that, and `path` is only its name.

    Raises:
        InputError: the file is missing, a folder, no picture, cut short, or has floating-point samples.
    """
    path = Path(path)
    if file is None and path.is_dir():
        raise InputError(f"{path}: is a folder; name a picture in it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if file is None else cast(IO[bytes], file)) as opened:
                picture = ImageOps.exif_transpose(opened)
                picture.load()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path}: is larger than {Image.MAX_IMAGE_PIXELS} pixels; scale it down first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: is not a picture that can be read; give a PNG or a JPEG") from error
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; check its permissions") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is truncated or damaged ({error}); copy it again") from error
    if picture.mode == "F":
        raise InputError(f"{path}: has floating-point samples, whose range is unknown; save it as 8 or 16 bits first")
    if picture.mode.startswith("I"):
        grey = (np.asarray(picture).astype(np.float64).clip(0, 65535) / 257 + 0.5).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(picture.convert("RGB"))


def write_image(path: Path | str, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write a PNG, or a JPEG at quality 95 without chroma subsampling, whole or not at all.

    Raises:
        InputError: a name that ends in neither `.png` nor `.jpg`.
        OSError: the file cannot be written; nothing is left of it then.
    """
    check_image_name(path)
    kind = _FORMATS[Path(path).suffix.lower()]
    memory = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(np.ascontiguousarray(picture)).save(memory, kind, **options)
    write_whole(path, memory.getbuffer())


def check_image_name(path: Path | str) -> None:
    """Raise InputError unless `path` ends in a picture format that is written."""
    if Path(path).suffix.lower() not in _FORMATS:
        raise InputError(f"{path}: a picture is written as PNG or JPEG; give a name that ends in .png or .jpg")
