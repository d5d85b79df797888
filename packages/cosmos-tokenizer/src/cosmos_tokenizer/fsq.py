"""Finite scalar quantisation (Mentzer et al., arXiv 2309.15505), as used in arXiv 2501.03575, section 4.1.

Channel c is squashed into L_c integers, and the integers of all channels make one index in a mixed radix whose first
channel is the least significant. With an even L the integers are not symmetric: 8 levels are -4 ... 3.
``fsq_reference`` is the definition; ``fsq_triton`` makes codes and indices in one pass.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cosmos_tokenizer import fsq_reference
from cosmos_tokenizer.backend import Backend, use_triton
from cosmos_tokenizer.errors import InputError


def quantize(
    z_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...], *, backend: Backend = "auto"
) -> Float[Tensor, "B C t h w"]:
    """Nearest codes in [-1, 1], in the dtype of ``z``; the gradient passes the rounding unchanged.

    Bounding and rounding run in float32 (float64 for float64 input), ties to even. For ``backend`` see
    :func:`cosmos_tokenizer.backend.use_triton`.

    Raises:
        InputError: the named backend cannot run here.
    """
    if use_triton(backend, z_BCTHW):
        from cosmos_tokenizer import fsq_triton

        return fsq_triton.codes_and_indices(z_BCTHW, levels)[0]
    return fsq_reference.quantize(z_BCTHW, levels)


def codes_and_indices(
    z_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...], *, backend: Backend = "auto"
) -> tuple[Float[Tensor, "B C t h w"], Int[Tensor, "B t h w"]]:
    """:func:`quantize`, and the :func:`indices_of` its codes, together in one pass where there is a kernel."""
    if use_triton(backend, z_BCTHW):
        from cosmos_tokenizer import fsq_triton

        return fsq_triton.codes_and_indices(z_BCTHW, levels)
    codes = fsq_reference.quantize(z_BCTHW, levels)
    return codes, fsq_reference.indices_of(codes, levels)


def indices_of(codes_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...]) -> Int[Tensor, "B t h w"]:
    """int32 index of each code vector, in 0 ... prod(levels) - 1."""
    return fsq_reference.indices_of(codes_BCTHW, levels)


def codes_of(
    indices_BTHW: Int[Tensor, "B *t h w"], levels: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "B C *t h w"]:
    """Codes in [-1, 1] of each index.

    Raises:
        InputError: an index lies outside 0 ... prod(levels) - 1.
    """
    size = math.prod(levels)
    # A meta tensor has no values to look at.
    if indices_BTHW.numel() and not indices_BTHW.is_meta:
        low, high = (int(value) for value in indices_BTHW.aminmax())
        if low < 0 or high >= size:
            raise InputError(f"index {low if low < 0 else high} is out of range: this tokenizer has 0 ... {size - 1}")
    return fsq_reference.codes_of(indices_BTHW, levels, dtype)
