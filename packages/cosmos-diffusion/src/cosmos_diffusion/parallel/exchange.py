"""The all-to-all exchange of uneven pieces that Ulysses, gathering and guidance are made of; its adjoint is itself.

Gradients that processes average, as DDP and FSDP do, are then those of the average of their losses.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

Sizes = tuple[int, ...]


def shares(total: int, parts: int) -> Sizes:
    """Sizes of so many consecutive parts, as equal as may be, larger ones first."""
    return tuple(total // parts + (index < total % parts) for index in range(parts))


def exchange(
    x: Shaped[Tensor, "..."], cut: tuple[int, Sizes], joined: tuple[int, Sizes], group: dist.ProcessGroup
) -> Shaped[Tensor, "..."]:
    """Cut along one axis, a piece for each process, and join what they send along another; differentiable.

    Args:
        x: of the size in ``joined`` that is this process's along that axis.
        cut: an axis, and how much of it each process is to have.
        joined: another axis, and how much of it each process has.
        group: the processes.

    Returns:
        Of the size in ``cut`` that is this process's along that axis, and of all sizes in ``joined`` along the other.
    """
    return _Exchange.apply(x, cut, joined, group)


def gathered(x: Shaped[Tensor, "..."], axis: int, sizes: Sizes, group: dist.ProcessGroup) -> Shaped[Tensor, "..."]:
    """What all processes have, joined along an axis, to each; ``sizes`` are theirs. Differentiable."""
    copies = x.expand(len(sizes), *x.shape)
    return exchange(copies, (0, (1,) * len(sizes)), (axis % x.dim() + 1, sizes), group)[0]


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        cut: tuple[int, Sizes],
        joined: tuple[int, Sizes],
        group: dist.ProcessGroup,
    ) -> Tensor:
        ctx.cut, ctx.joined, ctx.group = cut, joined, group
        return _all_to_all(x, cut, joined, group)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - once_differentiable hides the names
        ctx: Any,  # noqa: ANN401
        *grad_outputs: Tensor,
    ) -> tuple[Tensor | None, ...]:
        return _all_to_all(grad_outputs[0], ctx.joined, ctx.cut, ctx.group), None, None, None


def _all_to_all(x: Tensor, cut: tuple[int, Sizes], joined: tuple[int, Sizes], group: dist.ProcessGroup) -> Tensor:
    going = [piece.flatten() for piece in x.split(cut[1], cut[0])]
    shape = list(x.shape)
    shape[cut[0]] = cut[1][dist.get_rank(group)]
    shapes = []
    for size in joined[1]:
        shape[joined[0]] = size
        shapes.append(torch.Size(shape))
    counts = [shape.numel() for shape in shapes]
    come = x.new_empty(sum(counts))
    dist.all_to_all_single(come, torch.cat(going), counts, [piece.numel() for piece in going], group=group)
    return torch.cat([piece.view(shape) for piece, shape in zip(come.split(counts), shapes, strict=True)], joined[0])
