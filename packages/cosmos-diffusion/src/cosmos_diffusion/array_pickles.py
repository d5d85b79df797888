"""Pickles of NumPy arrays, read without running any of their code: only what an array is made of is known here."""

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from cosmos_tokenizer import InputError


def read_arrays(data: bytes) -> list[np.ndarray]:
    """The arrays of numbers of a pickled list, as ``t5_xxl/*.pickle`` holds them.

    Raises:
        InputError: the pickle is damaged, holds something else, or asks for anything beyond arrays.
    """
    try:
        found = _ArrayUnpickler(io.BytesIO(data)).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"a truncated or damaged pickle ({reason})") from error
    arrays = [found] if isinstance(found, np.ndarray) else found
    if not isinstance(arrays, list | tuple) or not all(
        isinstance(array, np.ndarray) and array.dtype.kind in "fiu" for array in arrays
    ):
        raise InputError("it holds something else than a list of arrays of numbers")
    return list(arrays)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401 - as the base class has it
        if (module_name, global_name) not in _KNOWN:
            name = f"{module_name}.{global_name}"[:120]
            raise InputError(f"it asks for {name}, and only NumPy arrays are read from a pickle")
        return _KNOWN[module_name, global_name]


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """An empty array, whose state follows."""
    del kind, shape, code
    return np.empty(0, np.int8)


def _from_buffer(buffer: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    """How protocols before 3 spell bytes."""
    if encoding != "latin1":
        raise InputError(f"it asks for text as {encoding[:40]!r}, which no array needs")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}
