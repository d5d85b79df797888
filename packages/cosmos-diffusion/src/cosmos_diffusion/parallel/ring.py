"""Ring attention: keys and values go round, queries stay (arXiv 2310.01889); the released code's way (2501.03575, 5).

While a process works on the keys that it holds, the next ones are on their way to it. Backward goes round once more,
and the gradients of keys and values travel with them until they are home.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmos_diffusion.nn import Backend
from cosmos_diffusion.parallel.partial_attention import Found, attend_to_part, gradients_of_part, merged
from cosmos_tokenizer import InputError


def ring_attention(
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
        q_BLNH: queries of this process.
        k_BLNH: its keys.
        v_BLNH: its values.
        lengths: how many tokens each process of the group has.
        group: of two or more processes, in a ring.
        backend: "sdpa" alone: others do not say how much a part weighs.

    Raises:
        InputError: of any other backend.
    """
    if backend != "sdpa":
        raise InputError(f"ring attention runs on backend 'sdpa', not {backend!r}: use method 'ulysses' with that one")
    q_BNLH, k_BNLH, v_BNLH = (x.transpose(1, 2) for x in (q_BLNH, k_BLNH, v_BLNH))
    return _Ring.apply(q_BNLH, torch.stack([k_BNLH, v_BNLH]), lengths, group).transpose(1, 2)


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        q_BNLH: Tensor,
        kv_2BNLH: Tensor,
        lengths: tuple[int, ...],
        group: dist.ProcessGroup,
    ) -> Tensor:
        found: Found | None = None
        for k_BNSH, v_BNSH in _around(kv_2BNLH, lengths, group):
            part = attend_to_part(q_BNLH, k_BNSH, v_BNSH)
            found = part if found is None else merged(found, part)
        assert found is not None
        ctx.save_for_backward(q_BNLH, kv_2BNLH, *found)
        ctx.lengths, ctx.group = lengths, group
        return found.o_BNLH.to(q_BNLH.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - once_differentiable hides the names
        ctx: Any,  # noqa: ANN401
        *grad_outputs: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (g_BNLH,) = grad_outputs
        q_BNLH, kv_2BNLH, *found = ctx.saved_tensors
        whole = Found(*found)
        dq_BNLH = torch.zeros_like(whole.o_BNLH)
        homewards: _Transfer | None = None
        for step, (k_BNSH, v_BNSH) in enumerate(_around(kv_2BNLH, ctx.lengths, ctx.group)):
            dq, dk, dv = gradients_of_part(g_BNLH, q_BNLH, k_BNSH, v_BNSH, whole)
            dq_BNLH += dq
            dkv_2BNSH = torch.stack([dk, dv]).to(dq_BNLH.dtype)
            if homewards is not None:
                dkv_2BNSH += homewards.wait()
            homewards = _Transfer(dkv_2BNSH, step, ctx.lengths, ctx.group, tag=1)
        assert homewards is not None
        return dq_BNLH.to(q_BNLH.dtype), homewards.wait().to(kv_2BNLH.dtype), None, None


def _around(held_2BNSH: Tensor, lengths: tuple[int, ...], group: dist.ProcessGroup) -> Iterator[Tensor]:
    """What each process holds: this one's own, then its predecessor's, and so on round the ring."""
    last = len(lengths) - 1
    for step in range(last):
        coming = _Transfer(held_2BNSH, step, lengths, group, tag=0)
        yield held_2BNSH
        held_2BNSH = coming.wait()
    yield held_2BNSH


class _Transfer:
    """A tensor on its way to the next process, and its predecessor's on the way here; ``step`` were made before."""

    def __init__(
        self, going_2BNSH: Tensor, step: int, lengths: tuple[int, ...], group: dist.ProcessGroup, *, tag: int
    ) -> None:
        rank, world = dist.get_rank(group), len(lengths)
        shape = list(going_2BNSH.shape)
        shape[3] = lengths[(rank - step - 1) % world]
        self._going = going_2BNSH.contiguous()  # kept until it has gone
        self._coming = going_2BNSH.new_empty(shape)
        send = dist.P2POp(dist.isend, self._going, group=group, tag=tag, group_peer=(rank + 1) % world)
        receive = dist.P2POp(dist.irecv, self._coming, group=group, tag=tag, group_peer=(rank - 1) % world)
        self._works = dist.batch_isend_irecv([send, receive])

    def wait(self) -> Tensor:
        """What has come."""
        for work in self._works:
            work.wait()
        return self._coming
