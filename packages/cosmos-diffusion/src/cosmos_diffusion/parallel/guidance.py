"""Guidance on two processes: one works with the prompt, the other without (arXiv 2207.12598)."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.parallel.exchange import gathered

T = TypeVar("T")


def both(
    evaluate: Callable[[T], Float[Tensor, "..."]], positive: T, negative: T, group: dist.ProcessGroup | None
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """``evaluate(positive)`` and ``evaluate(negative)``, each worked out by one of two processes and had by both.

    Differentiable: averaged over the two, gradients are those of one process that did both.

    Args:
        evaluate: the network, for example, at some noise level; its outcome has one shape and dtype for both.
        positive: what the first process gives it.
        negative: what the second one does.
        group: the two processes; without one, or alone in it, this process does both.
    """
    if group is None or dist.get_world_size(group) == 1:
        return evaluate(positive), evaluate(negative)
    assert dist.get_world_size(group) == 2
    y = evaluate(negative if dist.get_rank(group) else positive)
    one, other = gathered(y[None], 0, (1, 1), group)
    return one, other
