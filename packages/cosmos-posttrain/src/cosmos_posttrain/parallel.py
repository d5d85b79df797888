"""How a run is spread over processes: DDP or FSDP2, context parallelism, activation checkpointing, mixed precision.

The engine is torch's own, started by ``torchrun``; one process needs none of it and runs the same code. Weights and the
optimiser's state stay in float32; ``precision`` is that of the forward and backward pass (arXiv 2501.03575, section 5).
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed._composable.replicate import replicate
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from cosmos_tokenizer import InputError
from cosmos_tokenizer.devices import processes as processes

if TYPE_CHECKING:  # tokenizers are trained without it
    from cosmos_diffusion import DiT

T = TypeVar("T")

_WRAPPED = "_checkpoint_wrapped_module."
_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
    torch.ops.aten.convolution.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
}
"""What selective checkpointing keeps: products, which cost more to do again than to hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelConfig:
    """How weights are spread, what is kept for the backward pass, and in which precision a pass runs.

    `weights`: "replicated" (DDP) or "sharded" (FSDP2). `shard_over`: processes that share one copy of sharded weights,
    0 for all; fewer than all make a 2-D mesh of copies times shards. `context`: neighbouring processes that share the
    latent frames of one clip, where others have clips of their own; pictures, which have one frame, are shared out
    whole. `context_method`: "ring" or "ulysses", as in ``cosmos_diffusion.parallel``. `checkpointing`: recompute
    nothing, all but products, or everything inside each block in the backward pass; with "selective", a ring keeps
    what each of its turns found, and "ulysses" that once.
    """

    weights: Literal["replicated", "sharded"] = "replicated"
    shard_over: int = 0
    context: int = 1
    context_method: Literal["ring", "ulysses"] = "ring"
    checkpointing: Literal["none", "selective", "full"] = "none"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        choices = {
            "weights": ("replicated", "sharded"),
            "context_method": ("ring", "ulysses"),
            "checkpointing": ("none", "selective", "full"),
            "precision": ("float32", "bfloat16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"parallel.{name} is {getattr(self, name)!r}: use one of {', '.join(allowed)}")
        if self.shard_over < 0:
            raise InputError(f"parallel.shard_over is {self.shard_over}: give a number of processes, or 0 for all")
        if self.context < 1:
            raise InputError(f"parallel.context is {self.context}: give a number of processes from 1 up")


class Parallel:
    """This process among those of the run, and how a model is wrapped for them.

    An objective's ``shard`` calls :meth:`block` on each repeated block and then :meth:`whole` on each module that it
    calls. ``mesh`` has the dimensions "replicate" and "shard", or is None for one process. Batches are cut into
    ``shares`` parts, of which this process reads number ``share``; the processes of a context read the same.
    """

    def __init__(self, config: ParallelConfig) -> None:
        self.config = config
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self.mesh = self._mesh() if self.world > 1 else None
        if self.world % config.context:
            raise InputError(
                f"parallel.context is {config.context}: it must divide the {self.world} processes of the run"
            )
        self.share, self.shares = self.rank // config.context, self.world // config.context
        self._context = self._context_group() if config.context > 1 else None
        self._wholes: list[Any] = []

    def block(self, module: nn.Module) -> nn.Module:
        """One block that repeats: checkpointed and sharded apart from the others, to put where ``module`` was."""
        if self.config.checkpointing == "full":
            module = checkpoint_wrapper(module)
        elif self.config.checkpointing == "selective":
            module = checkpoint_wrapper(module, context_fn=_keep_products)
        return self._sharded(module, output=None)

    def whole(self, module: nn.Module, *, sharded: bool = True) -> None:
        """A module that the objective calls: on the device, and its gradients or weights shared among processes.

        With ``sharded=False`` every process holds all of it however other weights are spread: FSDP2 gathers weights
        for one backward pass, and cannot follow ``torch.autograd.grad``, a second derivative, or weights that are
        frozen for one of several calls.
        """
        module.to(self.device)
        if self.mesh is None:
            return
        if sharded and self.config.weights == "sharded":
            self._sharded(module, output=torch.float32)
        elif any(parameter.requires_grad for parameter in module.parameters()):  # DDP refuses to do nothing
            replicate(module, broadcast_buffers=False)
            # Else the first call would do it, and leave out what is frozen for the time of that call.
            replicate.state(module).lazy_init()  # pyright: ignore[reportFunctionMemberAccess]
        else:
            return
        self._wholes.append(module)

    def frames_shared(self, net: "DiT") -> AbstractContextManager[Any]:
        """Inside, the processes of a context work together on each clip that the network is called with.

        They call it alike, and get the whole output; gradients are right once they are averaged over all processes.
        """
        if self._context is None:
            return nullcontext()
        from cosmos_diffusion.parallel import context_parallel

        return context_parallel(net, self._context, self.config.context_method)

    def own_pictures(self, count: int) -> tuple[slice, float, torch.Generator | None]:
        """Which of the pictures that a context has read this process takes, for they have no frames to share.

        Returns:
            The pictures; what their mean loss is multiplied with, so that the mean over processes is that over
            pictures; and what draws their noise, where torch's own generator would draw another's.
        """
        among = self.config.context
        if among == 1 or count < among:
            return slice(None), 1.0, None
        place = self.rank % among
        own = slice(place, None, among)
        drawn = int(torch.randint(1 << 62, ()))  # alike in all of the context, and another for each batch of a step
        generator = torch.Generator().manual_seed(drawn ^ place)
        return own, len(range(count)[own]) * among / count, generator

    def autocast(self) -> AbstractContextManager[Any]:
        """Forward passes in the run's precision, where sharding does not see to it."""
        if self.config.precision == "float32" or (self.mesh is not None and self.config.weights == "sharded"):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @contextmanager
    def gradients_stay_here(self, stay: bool) -> Iterator[None]:
        """Leave out the exchange of gradients, for all but the last of several batches of one step."""
        if not stay:
            yield
            return
        for module in self._wholes:
            module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            for module in self._wholes:
                module.set_requires_gradient_sync(True)

    def forget_gathered(self) -> None:
        """Let go of whole weights that a forward pass without a backward one has left: they are about to change."""
        for whole in self._wholes:
            for module in whole.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def mean(self, figures: Mapping[str, Tensor]) -> dict[str, float]:
        """Scalars averaged over all processes, as Python numbers."""
        values = self.averaged(torch.stack([value.detach().double().cpu() for value in figures.values()]))
        return dict(zip(figures, values.tolist(), strict=True))

    def all(self, value: T) -> list[T]:
        """What each process has, in their order."""
        if self.world == 1:
            return [value]
        held: list[T | None] = [None] * self.world
        dist.all_gather_object(held, value)
        return cast("list[T]", held)

    def averaged(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Each element's mean over all processes."""
        if self.world == 1:
            return values
        total = values.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total / self.world

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            dist.barrier()

    def first(self, value: T) -> T:
        """What the first process has."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    def _context_group(self) -> dist.ProcessGroup:
        sizes, names = (self.shares, self.config.context), ("share", "context")
        return init_device_mesh(self.device.type, sizes, mesh_dim_names=names).get_group("context")

    def _mesh(self) -> DeviceMesh:
        over = self.config.shard_over or self.world
        if self.world % over:
            raise InputError(f"parallel.shard_over is {over}: it must divide the {self.world} processes of the run")
        if self.config.weights == "replicated":
            over = 1
        return init_device_mesh(self.device.type, (self.world // over, over), mesh_dim_names=("replicate", "shard"))

    def _sharded(self, module: nn.Module, *, output: torch.dtype | None) -> nn.Module:
        if self.mesh is None or self.config.weights == "replicated":
            return module
        low = self.config.precision == "bfloat16"
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if low else None,
            reduce_dtype=torch.float32,
            output_dtype=output if low else None,
        )
        mesh = self.mesh["shard"] if self.mesh.size(0) == 1 else self.mesh
        sharded = fully_shard(module.to(self.device), mesh=mesh, mp_policy=policy)
        assert isinstance(sharded, FSDPModule)
        return module


def named_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by the names that they have without any wrapping, to be asked for after ``shard``."""
    return {name.replace(_WRAPPED, ""): parameter for name, parameter in module.named_parameters()}


def whole_tensor(value: Tensor) -> Tensor:
    """All of a tensor of which this process may hold a part; every process must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _keep_products() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    def policy(context: object, operation: object, *given: object, **named: object) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)
