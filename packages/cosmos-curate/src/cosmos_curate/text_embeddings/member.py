"""The member of a clip in a `t5_xxl` tar: a pickled list of arrays, one a window, as readers of Cosmos data load it.

It is spelt out here, opcode by opcode, because `pickle.dumps` of an array names modules after NumPy's version: what
NumPy 2 writes NumPy 1.25 cannot read. These bytes depend on the arrays alone, and load under any NumPy from 1.16 on.
"""

import struct
from collections.abc import Sequence

import numpy as np

SUFFIX = "pickle"
"""Of the member: KEY.pickle."""

_KINDS = {"float16": "f2", "float32": "f4"}


def encode_member(arrays: Sequence[np.ndarray]) -> bytes:
    """Return the member of a clip: `pickle.loads` gives back a list of these arrays, equal to the bit.

    Args:
        arrays: for each window the vectors of its caption, `L D`, float16 or float32, without padding. Readers that
            want one caption a clip assert that there is one.

    Raises:
        ValueError: an array has another type or number of axes, or takes 2 GiB.
    """
    parts = [b"\x80\x03", b"](" if arrays else b"]"]
    parts += [_array(array) for array in arrays]
    parts += [b"e." if arrays else b"."]
    return b"".join(parts)


def _array(array: np.ndarray) -> bytes:
    if array.dtype.name not in _KINDS or array.ndim != 2 or array.nbytes >= 2**31:
        raise ValueError(f"an embedding is {array.dtype.name} of shape {array.shape}: float16 or float32, L x D wanted")
    kind = _KINDS[array.dtype.name]
    data = np.ascontiguousarray(array, f"<{kind}").tobytes()
    return b"".join(
        (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n",
            b"K\x00\x85C\x01b\x87R",  # an empty array: shape (0,), bytes
            b"(K\x01",  # its state: version,
            b"J" + struct.pack("<i", array.shape[0]) + b"J" + struct.pack("<i", array.shape[1]) + b"\x86",  # shape,
            b"cnumpy\ndtype\nX\x02\x00\x00\x00" + kind.encode() + b"\x89\x88\x87R",  # dtype,
            b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",  # whose state says little-endian,
            b"\x89",  # rows first,
            b"B" + struct.pack("<I", len(data)) + data,  # and the numbers
            b"tb",
        )
    )
