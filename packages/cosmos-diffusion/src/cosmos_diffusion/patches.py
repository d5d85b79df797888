"""Latents to tokens and back (arXiv 2501.03575, section 5.1); the released nets read and write in two orders."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

Patch = tuple[int, int, int]


def patchify(x_BCTHW: Float[Tensor, "B C T H W"], patch: Patch) -> Float[Tensor, "B t h w D"]:
    """Features of a token in the order (channel, frame, row, column)."""
    t, h, w = patch
    return rearrange(x_BCTHW, "b c (T t) (H h) (W w) -> b T H W (c t h w)", t=t, h=h, w=w)


def unpatchify(y_BTHWD: Float[Tensor, "B t h w D"], patch: Patch) -> Float[Tensor, "B C T H W"]:
    """Features of a token in the order (row, column, frame, channel): not the inverse of :func:`patchify`."""
    t, h, w = patch
    return rearrange(y_BTHWD, "b T H W (h w t c) -> b c (T t) (H h) (W w)", t=t, h=h, w=w)
