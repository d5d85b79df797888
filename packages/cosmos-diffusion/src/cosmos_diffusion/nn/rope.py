"""Rotary positions along several axes (arXiv 2104.09864; frequencies stretched as in arXiv 2501.03575, section 5.1)."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Rotation = tuple[Float[Tensor, "*B L H"], Float[Tensor, "*B L H"]]
"""Cosine and sine for each token and for each pair of channels."""


def frequencies(
    width: int, ratio: float = 1.0, *, base: float = 10000.0, device: str | torch.device | None = None
) -> Float[Tensor, " H"]:
    """Radians a position for each of ``width / 2`` pairs of channels, with "NTK-aware" stretching.

    The base grows by ``ratio ** (width / (width - 2))``, so that the slowest pair turns ``ratio`` times slower and the
    fastest as before.

    Args:
        width: channels of this axis, even, from 4 up (2 has one pair, which nothing stretches).
        ratio: positions in use against those that the frequencies were made for.
        base: of the geometric series.
        device: where to make them.
    """
    stretched = base * ratio ** (width / (width - 2)) if width > 2 else base
    return stretched ** -(torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)


def axis_widths(width: int) -> tuple[int, int, int]:
    """Channels of a head that time, rows and columns get: a third each in pairs, and time what is left."""
    third = width // 6 * 2
    return width - 2 * third, third, third


def grid_angles(
    positions: tuple[Float[Tensor, " T"], Float[Tensor, " h"], Float[Tensor, " w"]],
    rates: tuple[Float[Tensor, " a"], Float[Tensor, " b"], Float[Tensor, " c"]],
) -> Float[Tensor, "L H"]:
    """Angles of the tokens of a grid, ``L = T h w`` in that order; ``H = a + b + c`` pairs: time, rows, columns."""
    sizes = [len(axis) for axis in positions]
    parts = []
    for axis, (position, rate) in enumerate(zip(positions, rates, strict=True)):
        shape = [1, 1, 1, len(rate)]
        shape[axis] = sizes[axis]
        parts.append(torch.outer(position.float(), rate).view(shape).expand(*sizes, -1))
    return rearrange(torch.cat(parts, dim=-1), "t h w c -> (t h w) c")


def rotation(angles: Float[Tensor, "*B L H"]) -> Rotation:
    """What :func:`rotate` takes."""
    return angles.cos(), angles.sin()


def rotate(x_BLNH: Float[Tensor, "B L N D"], by: Rotation) -> Float[Tensor, "B L N D"]:
    """Turn each pair of channels (i, i + D/2) by its angle, in float32, and return the dtype that came."""
    cos, sin = (part.unsqueeze(-2) for part in by)
    first, second = x_BLNH.float().chunk(2, dim=-1)
    turned = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    return torch.cat(turned, dim=-1).to(x_BLNH.dtype)
