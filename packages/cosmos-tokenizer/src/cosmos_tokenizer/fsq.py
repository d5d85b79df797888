"""Finite scalar quantisation (Mentzer et al., arXiv 2309.15505), as used in arXiv 2501.03575, section 4.1.

Channel c is squashed into L_c integers, and the integers of all channels make one index in a mixed radix whose first
channel is the least significant. With an even L the integers are not symmetric: 8 levels are -4 ... 3.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cosmos_tokenizer.errors import InputError

_MARGIN = 1e-3


def quantize(z_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...]) -> Float[Tensor, "B C t h w"]:
    """Nearest codes in [-1, 1], in the dtype of ``z``; the gradient passes the rounding unchanged.

    Bounding and rounding run in float32 (float64 for float64 input), ties to even.
    """
    z = z_BCTHW if z_BCTHW.dtype == torch.float64 else z_BCTHW.float()
    bounded = _bound(z, levels)
    # The difference is exactly zero, so that the codes are exactly those of their indices.
    integers = bounded.detach().round() + (bounded - bounded.detach())
    return (integers / _per_channel([n // 2 for n in levels], z)).to(z_BCTHW.dtype)


def indices_of(codes_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...]) -> Int[Tensor, "B t h w"]:
    """int32 index of each code vector, in 0 ... prod(levels) - 1."""
    codes = codes_BCTHW.detach().float()
    half = _per_channel([n // 2 for n in levels], codes)
    digits = (codes * half + half).round().int()
    return (digits * _per_channel(_basis(levels), digits)).sum(dim=1, dtype=torch.int32)


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
    indices = indices_BTHW.int().unsqueeze(1)
    digits = indices // _per_channel(_basis(levels), indices) % _per_channel(list(levels), indices)
    half = _per_channel([n // 2 for n in levels], digits)
    return ((digits - half) / half).to(dtype)


def _bound(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    half_width = [(n - 1) * (1 + _MARGIN) / 2 for n in levels]
    offset = [0.5 if n % 2 == 0 else 0.0 for n in levels]
    shift = [math.atanh(o / h) for o, h in zip(offset, half_width, strict=True)]
    return torch.tanh(z + _per_channel(shift, z)) * _per_channel(half_width, z) - _per_channel(offset, z)


def _basis(levels: tuple[int, ...]) -> list[int]:
    return [math.prod(levels[:channel]) for channel in range(len(levels))]


def _per_channel(values: list[int] | list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, *[1] * (like.dim() - 2))
