"""Context parallelism: the latent frames of a clip on several processes (arXiv 2501.03575, section 5.1).

Only self-attention goes beyond a process's own tokens. Of several views each process has some frames of each.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch.distributed as dist
from torch import Tensor

from cosmos_diffusion.network import DiT, Level, Part
from cosmos_diffusion.parallel.exchange import gathered, shares
from cosmos_diffusion.parallel.ring import ring_attention
from cosmos_diffusion.parallel.ulysses import ulysses_attention
from cosmos_tokenizer import InputError

Method = Literal["ring", "ulysses"]
METHODS = {"ring": ring_attention, "ulysses": ulysses_attention}

_OF_FRAMES = {"latents": 2, "condition_mask": 2, "camera": 2, "tokens": 1}
"""Inputs of the network that have an axis of latent frames, and which it is."""


def check_method(method: str) -> None:
    """Raise InputError where there is no such method of context parallelism."""
    if method not in METHODS:
        raise InputError(f"method of context parallelism is {method!r}: use {' or '.join(METHODS)}")


def context_parallel(net: DiT, group: dist.ProcessGroup, method: Method = "ring") -> ExitStack:
    """Have the network share the frames of every clip out to the processes of a group.

    All of them then call it with the same whole inputs, and get the same whole output, within rounding that of one
    process. Frames that the group's size does not divide make some parts one frame longer. Gradients are those of one
    process once they are averaged over the group, as DDP and FSDP average them.

    Args:
        net: the network, also one whose weights are sharded.
        group: the processes; of one, nothing changes.
        method: "ring" (keys and values pass from process to process while each computes) or "ulysses" (two all-to-all
            exchanges an attention, of less in all; at most as many processes as heads).

    Returns:
        What ends it when it is closed or its ``with`` block is left.

    Raises:
        InputError: the method is unknown, or the network has fewer heads than Ulysses needs; from the network, a clip
            has fewer frames than there are processes.
    """
    check_method(method)
    size = dist.get_world_size(group)
    if method == "ulysses" and net.config.heads < size:
        raise InputError(
            f"the network has {net.config.heads} heads: 'ulysses' cannot share them out to {size} processes, use 'ring'"
        )
    ends = ExitStack()
    if size > 1:
        work = _Context(net, group, method)
        ends.callback(net.register_forward_pre_hook(work.share, with_kwargs=True).remove)
        ends.callback(net.register_forward_hook(work.gather, with_kwargs=True).remove)
    return ends


class _Context:
    """What a process does before and after the network; nothing is remembered from one call to the next."""

    def __init__(self, net: DiT, group: dist.ProcessGroup, method: Method) -> None:
        self.patch = net.config.patch[0]
        self.group, self.attend = group, METHODS[method]
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def share(self, net: DiT, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        """This process's part of the network's inputs."""
        given = dict(signature(DiT.forward).bind(net, *args, **kwargs).arguments)
        del given["self"]
        views, (frames, rows, columns) = net.layout(given["latents"], given.get("views"))
        if frames < self.size:
            raise InputError(
                f"latents have {frames} frames in tokens: {self.size} processes of context parallelism need as many "
                f"or more; give a longer clip, or at most {frames} processes"
            )
        parts = shares(frames, self.size)
        lengths = tuple(views * share * rows * columns for share in parts)
        part = Part(parts, self.rank, partial(self.attend, lengths=lengths, group=self.group))

        def own(value: Tensor, axis: int, patch: int) -> Tensor:
            x = value.unflatten(axis, (views, frames * patch))
            return x.narrow(axis + 1, part.first * patch, parts[self.rank] * patch).flatten(axis, axis + 1)

        for name, axis in _OF_FRAMES.items():
            if given.get(name) is not None:
                given[name] = own(given[name], axis, self.patch)
        level = given["c_noise"]
        if isinstance(level, Level) and level.last.shape[2] > 1:
            given["c_noise"] = Level(tuple(own(tables, 2, 1) for tables in level.blocks), own(level.last, 2, 1))
        elif isinstance(level, Tensor) and level.dim() == 2:
            given["c_noise"] = own(level, 1, 1)
        return (), given | {"part": part}

    def gather(self, net: DiT, args: tuple[()], kwargs: Mapping[str, Any], output: Tensor) -> Tensor:
        """The whole output."""
        views, _ = net.layout(kwargs["latents"], kwargs.get("views"))
        frames = tuple(share * self.patch for share in kwargs["part"].shares)
        return gathered(output.unflatten(2, (views, -1)), 3, frames, self.group).flatten(2, 3)
