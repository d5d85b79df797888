"""Norms of the transformers: RMS norm of queries and keys, and layer norm under a modulation (arXiv 2212.09748)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-6


class RMSNorm(nn.RMSNorm):
    """``x / sqrt(mean(x**2) + 1e-6) * weight`` over the last axis, in float32 inside."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)


def modulated(
    x: Float[Tensor, "*B D"], shift: Float[Tensor, "*#B D"], scale: Float[Tensor, "*#B D"]
) -> Float[Tensor, "*B D"]:
    """Layer norm without weights of its own, then ``* (1 + scale) + shift``."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale)
