"""Finite scalar quantisation in plain torch: the definition that the kernels of ``fsq_triton`` are tested against.

Runs on every device and in every float dtype. Bounding and rounding run in float32 (float64 for float64 input), ties
to even.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MARGIN = 1e-3


def quantize(z_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...]) -> Float[Tensor, "B C t h w"]:
    """See :func:`cosmos_tokenizer.fsq.quantize`."""
    z = z_BCTHW if z_BCTHW.dtype == torch.float64 else z_BCTHW.float()
    bounded = _bound(z, levels)
    # The difference is exactly zero, so that the codes are exactly those of their indices.
    integers = bounded.detach().round() + (bounded - bounded.detach())
    return (integers / _per_channel([n // 2 for n in levels], z)).to(z_BCTHW.dtype)


def indices_of(codes_BCTHW: Float[Tensor, "B C t h w"], levels: tuple[int, ...]) -> Int[Tensor, "B t h w"]:
    """See :func:`cosmos_tokenizer.fsq.indices_of`."""
    codes = codes_BCTHW.detach().float()
    half = _per_channel([n // 2 for n in levels], codes)
    digits = (codes * half + half).round().int()
    return (digits * _per_channel(basis(levels), digits)).sum(dim=1, dtype=torch.int32)


def codes_of(
    indices_BTHW: Int[Tensor, "B *t h w"], levels: tuple[int, ...], dtype: torch.dtype
) -> Float[Tensor, "B C *t h w"]:
    """See :func:`cosmos_tokenizer.fsq.codes_of`; the indices are in range."""
    indices = indices_BTHW.int().unsqueeze(1)
    digits = indices // _per_channel(basis(levels), indices) % _per_channel(list(levels), indices)
    half = _per_channel([n // 2 for n in levels], digits)
    return ((digits - half).float() / half).to(dtype)


def half_width(levels: int) -> float:
    """Half of the interval that a channel is squashed into."""
    return (levels - 1) * (1 + _MARGIN) / 2


def offset(levels: int) -> float:
    """What moves an even number of levels to where rounding reaches each of them."""
    return 0.5 if levels % 2 == 0 else 0.0


def shift(levels: int) -> float:
    """What is added to the latent so that zero stays zero."""
    return math.atanh(offset(levels) / half_width(levels))


def basis(levels: tuple[int, ...]) -> list[int]:
    """What a step of each channel adds to the index."""
    return [math.prod(levels[:channel]) for channel in range(len(levels))]


def _per_channel(values: list[int] | list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, *[1] * (like.dim() - 2))


def _bound(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    squashed = torch.tanh(z + _per_channel([shift(n) for n in levels], z))
    return squashed * _per_channel([half_width(n) for n in levels], z) - _per_channel([offset(n) for n in levels], z)
