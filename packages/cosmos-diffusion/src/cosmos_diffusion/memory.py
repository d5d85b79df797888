"""What a run costs before it is paid for: peak memory by option, and floating-point operations of a forward.

Nothing is allocated. Counts are for latents of a codec that keeps the first frame and every eighth after it, and every
eighth pixel, unless told otherwise. GB are 10^9 bytes.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.live_bytes import peak_bytes
from cosmos_diffusion.network import DiT
from cosmos_diffusion.operations import flops as flops
from cosmos_diffusion.operations import latent_shape as latent_shape
from cosmos_diffusion.operations import tokens_of
from cosmos_diffusion.operations import training_flops as training_flops
from cosmos_diffusion.parallel import plan_for
from cosmos_diffusion.quantised import quantise
from cosmos_tokenizer import InputError

Weights = Literal["float32", "bfloat16", "int8", "float8"]
"""How weights are kept; those of eight bits compute in bfloat16."""
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
TEXT_ENCODER_BYTES = 2 * 4_864_791_552
"""Of T5-11B's encoder in bfloat16."""
CODEC_BYTES = 2 * 105_653_696
"""Of the tokenizer ``cv8x8x8-720p`` in bfloat16."""
_EXCHANGED = 6
"""Tensors of a process's tokens that Ulysses attention holds beside all else: three to send, three to keep."""
_GPUS = (2, 4, 8)
_PAGE = 256
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory of sampling, in bytes.

    weights: of the network, on the device; of a paged one those that are there at once.
    text: keys and values of the prompts for every block, kept over all steps.
    activations: the most that one forward holds at once.
    host: pinned memory of a paged network.
    """

    weights: int
    text: int
    activations: int
    host: int = 0

    @property
    def total(self) -> int:
        """On the device, without the allocator's own overhead and the sampler's few latents."""
        return self.weights + self.text + self.activations


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Of mixed-precision training, over all GPUs, in bytes (arXiv 2501.03575, section 5.1.3)."""

    weights: int
    gradients: int
    optimizer: int
    activations: int


def memory(
    config: DiTConfig,
    frames: int,
    height: int,
    width: int,
    text_length: int | None = None,
    *,
    weights: Weights = "bfloat16",
    ahead: int | None = None,
    batch: int = 1,
    guidance: bool = True,
    together: bool = True,
    processes: int = 1,
    compression: tuple[int, int] = (8, 8),
) -> Memory:
    """Peak memory of sampling clips, of weights as they are kept and of activations as torch runs them one by one.

    Activations are watched in a forward of two blocks on fake tensors, with fused attention: the blocks behind use the
    same memory again.

    Args:
        config: of the network.
        frames, height, width: of the clip, in pixels; of one view, where the network has several.
        text_length: vectors of text, of one view; by default those that the network was made for.
        weights: how they are kept.
        ahead: page the network, copying so many blocks ahead (``paging``).
        batch: clips.
        guidance: keep two prompts a clip.
        together: run both as one batch, not one after the other.
        processes: share weights, prompts and frames out to so many, as ``parallel.plan_for`` does; the figures are
            those of the one that has most.
        compression: of the codec, in time and in space.

    Raises:
        InputError: the codec or the network does not take such a clip, ``weights`` is unknown, or there are more
            processes than frames to share out.
    """
    if weights not in WEIGHTS:
        raise InputError(f"weights is {weights!r}: use {', '.join(WEIGHTS)}")
    latents = latent_shape(config, frames, height, width, compression)
    plan = plan_for(config, processes, frames=latents[0], guided=guidance)
    text, prompts = text_length or config.text_length, batch * (2 if guidance else 1) // plan.guidance
    itemsize = _computing(weights).itemsize
    keys_values = prompts * config.blocks * 2 * (config.views or 1) * text * config.width * itemsize
    outside, block = _weight_bytes(config, weights)
    latents = (-(-latents[0] // config.patch[0] // plan.context) * config.patch[0], *latents[1:])
    running = prompts if together else batch
    active = _activations(replace(config, blocks=2), latents, running, text, weights)
    if plan.context > 1:
        active += _EXCHANGED * running * tokens_of(config, latents) * config.width * itemsize
    if ahead is None:
        held = config.blocks * sum(block)
        if processes > 1:  # a part of each block, and one block whole while the next one comes
            held = min(held, -(-held // processes) + 2 * sum(block))
        return Memory(weights=outside + held, text=keys_values, activations=active)
    page = sum(-(-size // _PAGE) * _PAGE for size in block)
    return Memory(
        weights=outside + min(ahead + 1, config.blocks) * page,
        text=keys_values,
        activations=active,
        host=config.blocks * (1 << (page - 1).bit_length()),  # torch pins powers of two
    )


def training_memory(
    config: DiTConfig,
    frames: int,
    height: int,
    width: int,
    *,
    batch: int = 1,
    adapters: int | None = None,
    compression: tuple[int, int] = (8, 8),
) -> TrainingMemory:
    """Of training with Adam in mixed precision, by the paper's formula.

    Activations are 15 tensors of the tokens a block in bfloat16, the cheap ones worked out again. For weights see
    :func:`mixed_precision`.

    Args:
        config: of the network.
        frames, height, width: of the clip, in pixels; of one view, where the network has several.
        batch: clips.
        adapters: parameters that are trained in place of the network's (LoRA).
        compression: of the codec, in time and in space.

    Raises:
        InputError: the codec or the network does not take such a clip.
    """
    tokens = tokens_of(config, latent_shape(config, frames, height, width, compression))
    activations, held = 2 * config.blocks * 15 * tokens * batch * config.width, parameters_of(config)
    if adapters is not None:
        return mixed_precision(adapters, activations, frozen=held)
    return mixed_precision(held, activations)


def mixed_precision(trained: int, activations: int, *, frozen: int = 0) -> TrainingMemory:
    """Memory of so many parameters and of some bytes of activations.

    A trained parameter takes 10 bytes as weights (bfloat16, and float32 for it and for its moving average), 2 as
    gradient and 8 in the optimizer; a frozen one 2, in bfloat16.
    """
    return TrainingMemory(
        weights=10 * trained + 2 * frozen, gradients=2 * trained, optimizer=8 * trained, activations=activations
    )


def parameters_of(config: DiTConfig) -> int:
    """How many the network has."""
    outside, block = _weight_bytes(config, "bfloat16")
    return (outside + config.blocks * sum(block)) // 2


def options(
    config: DiTConfig, frames: int, height: int, width: int, *, batch: int = 1, compression: tuple[int, int] = (8, 8)
) -> list[tuple[str, Memory]]:
    """Peak memory by option, guided, from most to least convenient: what a person tries when a run does not fit.

    The network is on the device alone but in one row, where T5-11B's encoder and the codec are beside it. In their own
    turns the former takes 10 GB (or none, with embeddings made before), the latter 6 GB to decode 121 frames of
    704x1280 at once. Rows of ``FSDP`` are of one of so many GPUs, which share guidance and frames too; those whose
    frames do not go round are left out.
    """

    def of(weights: Weights, **more: Any) -> Memory:  # noqa: ANN401 - memory's own
        return memory(config, frames, height, width, weights=weights, batch=batch, compression=compression, **more)

    alone = of("bfloat16")
    beside = replace(alone, weights=alone.weights + TEXT_ENCODER_BYTES + CODEC_BYTES)
    rows = [("float32", of("float32")), ("bfloat16, all components at once", beside)]
    rows += [("bfloat16", alone), ("bfloat16, prompts in turn", of("bfloat16", together=False))]
    for weights in WEIGHTS[2:]:
        rows.append((weights, of(weights)))
    for weights in WEIGHTS[1:]:
        rows.append((f"{weights}, paged", of(weights, ahead=1)))
    rows.append(("int8, paged, prompts in turn", of("int8", ahead=1, together=False)))
    for count in _GPUS:
        with suppress(InputError):
            rows.append((f"bfloat16, FSDP over {count}", of("bfloat16", processes=count)))
    return rows


def as_json(rows: Iterable[tuple[str, Memory]]) -> list[dict[str, str | float]]:
    """Rows of :func:`options` for a command's ``--json``."""
    return [
        {
            "option": option,
            "weights_gb": found.weights / _GB,
            "text_gb": found.text / _GB,
            "activations_gb": found.activations / _GB,
            "peak_gb": found.total / _GB,
            "host_gb": found.host / _GB,
        }
        for option, found in rows
    ]


def as_table(rows: Sequence[tuple[str, Memory]]) -> str:
    """Rows of :func:`options` as lines of text, in GB."""
    heads = ("option", "weights", "text", "activations", "peak", "host")
    cells = [[str(row["option"]), *(f"{value:.1f}" for value in list(row.values())[1:])] for row in as_json(rows)]
    widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(heads))]
    lines = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in [heads, *cells]
    ]
    return "\n".join("  ".join(line) for line in lines)


def _computing(weights: Weights) -> torch.dtype:
    return torch.float32 if weights == "float32" else torch.bfloat16


@cache
def _weight_bytes(config: DiTConfig, weights: Weights) -> tuple[int, tuple[int, ...]]:
    """Outside the blocks, and of each tensor of a block, which are all alike."""
    with torch.device("meta"):
        net = DiT(replace(config, blocks=1)).to(_computing(weights))
    if weights in ("int8", "float8"):
        quantise(net, weights)
    sizes = {name: value.numel() * value.element_size() for name, value in net.named_parameters()}
    block = tuple(size for name, size in sizes.items() if name.startswith("blocks."))
    return sum(sizes.values()) - sum(block), block


@cache
def _activations(config: DiTConfig, latents: tuple[int, int, int], batch: int, text: int, weights: Weights) -> int:
    dtype, views = _computing(weights), config.views or 1
    frames, rows, columns = latents
    with torch.device("meta"):
        net = DiT(config).to(dtype)
    if weights in ("int8", "float8"):
        quantise(net, weights)
    with FakeTensorMode(), torch.no_grad():
        for part in net.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    fake = torch.empty(value.shape, dtype=value.dtype)
                    part._parameters[name] = nn.Parameter(fake, requires_grad=False)
        x = torch.empty(batch, config.latent_channels, views * frames, rows, columns, dtype=dtype)
        width = config.text_projection or config.text_width
        level = net.prepare_level(torch.zeros(batch), action=_action(config, batch))
        context = net.prepare_text(torch.zeros(batch, views * text, width), views=views)
        tokens = None
        if config.token_channels:
            tokens = torch.zeros(batch, frames, max(1, rows // 2), max(1, columns // 2), dtype=torch.int64)
        return peak_bytes(lambda: net(x, level, context, fps=24, tokens=tokens))


def _action(config: DiTConfig, batch: int) -> torch.Tensor | None:
    return torch.zeros(batch, config.action_numbers) if config.action_numbers else None
