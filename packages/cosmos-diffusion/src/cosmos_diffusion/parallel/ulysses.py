"""Ulysses attention: some heads over all tokens, not all heads over some tokens (arXiv 2309.14509, section 3)."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.nn import Backend, attention
from cosmos_diffusion.parallel.exchange import exchange, shares


def ulysses_attention(
    q_BLNH: Float[Tensor, "B L N H"],
    k_BLNH: Float[Tensor, "B L N H"],
    v_BLNH: Float[Tensor, "B L N H"],
    *,
    lengths: tuple[int, ...],
    group: dist.ProcessGroup,
    backend: Backend = "sdpa",
) -> Float[Tensor, "B L N H"]:
    """What this process's queries find among the keys of all; differentiable.

    Args:
        q_BLNH: queries of this process, of at least as many heads as there are processes.
        k_BLNH: its keys.
        v_BLNH: its values.
        lengths: how many tokens each process of the group has.
        group: the processes.
        backend: as of :func:`~cosmos_diffusion.nn.attention`.
    """
    heads = shares(q_BLNH.shape[2], len(lengths))
    qkv = exchange(torch.stack([q_BLNH, k_BLNH, v_BLNH]), (3, heads), (2, lengths), group)
    o_BLNH = attention(*qkv, backend=backend)
    return exchange(o_BLNH, (1, lengths), (2, heads), group)
