"""Memory, operations and hours of training a model on some GPUs (arXiv 2501.03575, section 5.1.3). Read this first.

GPUs work in groups that share a batch's frames (context parallelism), each group on clips of its own. Weights,
gradients and the optimizer's moments are those of mixed precision with Adam and a moving average, shared out by FSDP.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from cosmos_diffusion import DiT, DiTConfig
from cosmos_diffusion.memory import (
    TrainingMemory,
    latent_shape,
    mixed_precision,
    parameters_of,
    training_flops,
    training_memory,
)
from cosmos_posttrain.estimate.convolutional import tokenizer_forward
from cosmos_posttrain.estimate.models import Clip, Model
from cosmos_tokenizer import InputError, TokenizerConfig

EFFICIENCY = 0.4
"""Assumed share of a GPU's peak; the released networks are published to sample at 0.41 and 0.46 of an H100's."""
_ADAPTED = ("self_attention.q", "self_attention.v", "cross_attention.q", "cross_attention.v")
_GB = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How GPUs share the work.

    `gpus` in all; `context`: those of a group, which shares the latent frames of `batch` clips; `shard`: those that one
    copy of the weights is shared out to, by default all. `lora`: rank of adapters that are trained in the weights'
    place, on the queries and values of all attentions.

    Raises:
        InputError: a number is out of range, or one does not divide another.
    """

    gpus: int
    context: int = 1
    shard: int | None = None
    batch: int = 1
    lora: int | None = None

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give a number from 1 up")
        for name, value in (("context", self.context), ("shard", self.copies)):
            if self.gpus % value:
                raise InputError(f"{name} is {value}: it must divide the number of GPUs, {self.gpus}")

    @property
    def copies(self) -> int:
        """GPUs of one copy of the weights."""
        return self.gpus if self.shard is None else self.shard

    @property
    def groups(self) -> int:
        """Groups of GPUs, each on clips of its own."""
        return self.gpus // self.context


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Of training one model by a plan.

    `whole`: bytes of one copy of the weights and what belongs to them, and of the activations of one group's batch;
    `each`: of what one GPU holds of it. `parameters` of the network, `trained` of them or beside them. `flops` of one
    step of all groups.
    """

    model: Model
    clip: Clip
    plan: Plan
    parameters: int
    trained: int
    whole: TrainingMemory
    each: TrainingMemory
    flops: int

    def hours(self, steps: int, *, tflops: float, efficiency: float = EFFICIENCY) -> float:
        """Time on all GPUs at a share of their peak rate, in 10^12 operations a second.

        Raises:
            InputError: a number is out of range.
        """
        if steps < 1:
            raise InputError(f"steps is {steps}: give a number from 1 up")
        if not 0 < efficiency <= 1:
            raise InputError(f"efficiency is {efficiency}: give a share of the peak, above 0 and at most 1")
        if not tflops > 0:
            raise InputError(f"peak-tflops is {tflops}: give a positive number")
        return self.flops * steps / (self.plan.gpus * tflops * 1e12 * efficiency) / 3600

    def as_json(self) -> dict[str, Any]:
        """Figures by name: ``weights_gb`` and so on of ``whole``, and of ``each`` in ``per_gpu``; GB are 10^9 bytes."""
        return {
            "model": self.model.name,
            "kind": self.model.kind,
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            "frames": self.clip.frames,
            "height": self.clip.height,
            "width": self.clip.width,
            "batch": self.plan.batch,
            "gpus": self.plan.gpus,
            "context": self.plan.context,
            "shard": self.plan.copies,
            "lora": self.plan.lora,
            **gigabytes(self.whole),
            "per_gpu": gigabytes(self.each),
            "clips_per_step": self.plan.batch * self.plan.groups,
            "flops": self.flops,
        }


def gigabytes(memory: TrainingMemory) -> dict[str, float]:
    """Memory by part, and all of it, in 10^9 bytes."""
    parts: dict[str, float] = {f"{name}_gb": value / _GB for name, value in asdict(memory).items()}
    return parts | {"total_gb": float(sum(parts.values()))}


def adapter_parameters(config: DiTConfig, rank: int) -> int:
    """Of low-rank adapters of the queries and values of all attentions (LoRA, arXiv 2106.09685, section 4.1)."""
    with torch.device("meta"):
        (block,) = DiT(replace(config, blocks=1)).blocks
    sides = [side for name in _ADAPTED for side in block.get_parameter(f"{name}.weight").shape]
    return config.blocks * rank * sum(sides)


def estimate(model: Model, plan: Plan, clip: Clip | None = None) -> Estimate:
    """What training takes: a transformer by the paper's formula, a tokenizer as counted on the meta device.

    Not in it: blocks that FSDP has gathered for their turn, workspaces of kernels, what an allocator cannot use, and
    the frozen networks of a tokenizer's loss.

    Args:
        model: from ``models.find_model``.
        plan: how GPUs share the work.
        clip: instead of the model's own.

    Raises:
        InputError: the model does not take such a clip, or cannot be trained by such a plan.
    """
    clip = clip or model.clip
    if isinstance(model.config, TokenizerConfig):
        if plan.context > 1 or plan.lora is not None:
            raise InputError(f"{model.name} is a tokenizer: it has neither context parallelism nor adapters")
        forward = tokenizer_forward(model.config, clip, batch=plan.batch)
        parameters = trained = forward.parameters
        whole, flops, share = mixed_precision(trained, forward.saved), 3 * forward.flops, (1, 1)
    else:
        config, size = model.config, (clip.frames, clip.height, clip.width)
        frames = latent_shape(config, *size, model.compression)[0] // config.patch[0]
        if plan.context > frames:
            raise InputError(
                f"context is {plan.context}: there are {frames} latent frames to share, make a longer clip"
            )
        adapters = None if plan.lora is None else adapter_parameters(config, plan.lora)
        more: dict[str, Any] = {"batch": plan.batch, "compression": model.compression}
        whole = training_memory(config, *size, adapters=adapters, **more)
        flops = training_flops(config, *size, frozen=adapters is not None, **more)
        parameters = parameters_of(config)
        trained = parameters if adapters is None else adapters
        share = (-(-frames // plan.context), frames)
    parts = {name: -(-getattr(whole, name) // plan.copies) for name in ("weights", "gradients", "optimizer")}
    each = TrainingMemory(**parts, activations=whole.activations * share[0] // share[1])
    return Estimate(
        model=model,
        clip=clip,
        plan=plan,
        parameters=parameters,
        trained=trained,
        whole=whole,
        each=each,
        flops=flops * plan.groups,
    )
