"""How several processes share out the making of a clip: guidance times context, and weights over all of them."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.network import DiT
from cosmos_diffusion.parallel.context import Method, check_method, context_parallel
from cosmos_diffusion.parallel.guidance import both
from cosmos_diffusion.parallel.sharded import shard
from cosmos_tokenizer import InputError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A world of `guidance * context` processes.

    `guidance`: 2 where the prompt and the negative one have processes of their own, else 1. `context`: processes that
    share the latent frames, by `method`. `sharded`: weights are shared out to all processes, where each would else hold
    them whole.

    Raises:
        InputError: a value is out of range.
    """

    guidance: int = 1
    context: int = 1
    method: Method = "ring"
    sharded: bool = False

    def __post_init__(self) -> None:
        if self.guidance not in (1, 2):
            raise InputError(f"guidance is {self.guidance}: use 1 process for it, or 2")
        if self.context < 1:
            raise InputError(f"context is {self.context}: give a number of processes from 1 up")
        check_method(self.method)
        if self.sharded and self.processes == 1:
            raise InputError("sharded is true: weights need two processes or more to be shared out to, see torchrun")

    @property
    def processes(self) -> int:
        """In all."""
        return self.guidance * self.context


def plan_for(
    config: DiTConfig,
    processes: int,
    *,
    frames: int,
    guided: bool,
    method: Method | None = None,
    sharded: bool = False,
) -> Plan:
    """The plan of least communication for so many processes.

    Two go to guidance where there is any and the number is even, for they exchange one output a step. The rest share
    the frames: by Ulysses, which sends less, where the heads come out even, and else in a ring.

    Args:
        config: of the network.
        processes: in all.
        frames: of the clip or, with views, of one view, in latents.
        guided: whether each step runs the network with the prompt and without.
        method: of context parallelism, instead of the choice above.
        sharded: share the weights out too.

    Raises:
        InputError: there are more processes than can work on so many frames, or heads with ``method``.
    """
    guidance = 2 if guided and processes % 2 == 0 else 1
    context = processes // guidance
    if method is None:
        method = "ring" if config.heads % context else "ulysses"
    for most, what in ((frames // config.patch[0], "latent frames"), (config.heads, "heads")):
        if context > most and (what == "latent frames" or method == "ulysses"):
            instead = "make a longer clip" if what == "latent frames" else "use method 'ring'"
            raise InputError(
                f"{processes} processes are too many for {most} {what}: start at most {guidance * most}, or {instead}"
            )
    return Plan(guidance=guidance, context=context, method=method, sharded=sharded)


class Team:
    """This process among those of a plan. All of them run the same program and, at its end, have the same clip.

    Args:
        plan: fits the number of processes that ``processes`` joined; one process needs nothing to be joined.

    Raises:
        InputError: it does not.
    """

    def __init__(self, plan: Plan) -> None:
        world = dist.get_world_size() if dist.is_initialized() else 1
        if plan.processes != world:
            raise InputError(
                f"the plan is for {plan.guidance} x {plan.context} processes and {world} run: "
                f"start torchrun --nproc-per-node {plan.processes}"
            )
        self.plan = plan
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self._mesh = self._all = None
        if world > 1:
            # Neighbours share frames, since they talk most.
            sizes, names = (plan.guidance, plan.context), ("guidance", "context")
            self._mesh = init_device_mesh(self.device.type, sizes, mesh_dim_names=names)
            self._all = init_device_mesh(self.device.type, (world,)) if plan.sharded else None

    def spread(self, net: DiT) -> ExitStack:
        """Have the network run on this team; closing what is returned ends all but the sharing of weights."""
        if self._all is not None:
            shard(net, self._all)
        if self._mesh is None:
            return ExitStack()
        return context_parallel(net, self._mesh.get_group("context"), self.plan.method)

    @property
    def halves(self) -> bool:
        """Whether the prompt and the negative one have processes of their own."""
        return self.plan.guidance == 2

    def both(self, evaluate: Callable[[T], Tensor], positive: T, negative: T) -> tuple[Tensor, Tensor]:
        """``evaluate`` of two things: see :func:`~cosmos_diffusion.parallel.guidance.both`."""
        group = None if self._mesh is None else self._mesh.get_group("guidance")
        return both(evaluate, positive, negative, group)

    def largest(self, x: Shaped[Tensor, ""]) -> Shaped[Tensor, ""]:
        """The largest that any process has, so that all can decide alike."""
        if self._mesh is not None:
            x = x.clone()
            dist.all_reduce(x, op=dist.ReduceOp.MAX)
        return x

    def same(self, x: Shaped[Tensor, "*S"]) -> Shaped[Tensor, "*S"]:
        """What the first process has: of a clip to begin with, all must have the same bits."""
        if self._mesh is not None:
            x = x.clone()
            dist.broadcast(x, src=0)
        return x
