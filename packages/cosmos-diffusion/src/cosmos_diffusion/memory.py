"""What a run costs before it is paid for: peak memory by option, and floating-point operations of a forward.

Nothing is allocated. Counts are for latents of a codec that keeps the first frame and every eighth after it, and every
eighth pixel, unless told otherwise. GB are 10^9 bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.live_bytes import peak_bytes
from cosmos_diffusion.network import DiT
from cosmos_diffusion.quantised import quantise
from cosmos_tokenizer import InputError

Weights = Literal["float32", "bfloat16", "int8", "float8"]
"""How weights are kept; those of eight bits compute in bfloat16."""
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
TEXT_ENCODER_BYTES = 2 * 4_864_791_552
"""Of T5-11B's encoder in bfloat16."""
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


def latent_shape(
    config: DiTConfig, frames: int, height: int, width: int, compression: tuple[int, int] = (8, 8)
) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip of pixels (of one view).

    Raises:
        InputError: the codec or the network does not take such a clip.
    """
    time, space = compression
    if frames < 1 or (frames - 1) % time:
        near = max(0, frames - 1) // time * time + 1
        raise InputError(f"frames is {frames}: give 1 + a multiple of {time}, such as {near} or {near + time}")
    shape = ((frames - 1) // time + 1, height // space, width // space)
    for name, size, pixels, patch, most in (
        ("height", shape[1], height, config.patch[1], config.grid[1]),
        ("width", shape[2], width, config.patch[2], config.grid[2]),
    ):
        unit = space * patch
        if pixels % unit or not 0 < size <= most:
            raise InputError(f"{name} is {pixels}: give a multiple of {unit}, at most {most * space}")
    if shape[0] % config.patch[0] or shape[0] > config.grid[0]:
        raise InputError(f"frames is {frames}: the network takes at most {config.grid[0]} latent frames")
    return shape


def flops(
    config: DiTConfig,
    frames: int,
    height: int,
    width: int,
    text_length: int | None = None,
    *,
    batch: int = 1,
    prepared: bool = False,
    compression: tuple[int, int] = (8, 8),
) -> int:
    """Floating-point operations of one forward: two for each multiplication of its matrix products and attentions.

    Args:
        config: of the network.
        frames, height, width: of the clip, in pixels; of one view, where the network has several.
        text_length: vectors of text, of one view; by default those that the network was made for.
        batch: clips.
        prepared: leave out what ``prepare_text`` and ``prepare_level`` have done before.
        compression: of the codec, in time and in space.

    Raises:
        InputError: the codec or the network does not take such a clip.
    """
    views = config.views or 1
    cells = [
        size // patch
        for size, patch in zip(latent_shape(config, frames, height, width, compression), config.patch, strict=True)
    ]
    tokens, text = views * cells[0] * cells[1] * cells[2], text_length or config.text_length
    d, patch = config.width, config.patch[0] * config.patch[1] * config.patch[2]
    ends = tokens * d * patch * (config.input_channels + config.latent_channels)
    products = tokens * d * (6 * d + 2 * config.mlp_width)  # self-attention's four, cross-attention's two, perceptron
    attention = 2 * tokens * tokens * d + 2 * tokens * text * d
    level = 3 * d * config.adaln_rank + 3 * 3 * d * config.adaln_rank
    context = 2 * views * text * config.text_width * d
    if prepared:
        return 2 * batch * (ends + config.blocks * (products + attention))
    shared = 4 * d * d + 3 * d * config.adaln_rank + views * text * config.text_projection * config.text_width
    return 2 * batch * (ends + shared + config.blocks * (products + attention + level + context))


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
        compression: of the codec, in time and in space.

    Raises:
        InputError: the codec or the network does not take such a clip, or ``weights`` is unknown.
    """
    if weights not in WEIGHTS:
        raise InputError(f"weights is {weights!r}: use {', '.join(WEIGHTS)}")
    views = config.views or 1
    text, prompts = text_length or config.text_length, batch * (2 if guidance else 1)
    latents = latent_shape(config, frames, height, width, compression)
    itemsize = _computing(weights).itemsize
    keys_values = prompts * config.blocks * 2 * views * text * config.width * itemsize
    outside, block = _weight_bytes(config, weights)
    active = _activations(replace(config, blocks=2), latents, prompts if together else batch, text, weights)
    if ahead is None:
        return Memory(weights=outside + config.blocks * sum(block), text=keys_values, activations=active)
    page = sum(-(-size // _PAGE) * _PAGE for size in block)
    return Memory(
        weights=outside + min(ahead + 1, config.blocks) * page,
        text=keys_values,
        activations=active,
        host=config.blocks * (1 << (page - 1).bit_length()),  # torch pins powers of two
    )


def training_memory(
    config: DiTConfig, frames: int, height: int, width: int, *, batch: int = 1, compression: tuple[int, int] = (8, 8)
) -> TrainingMemory:
    """Of training with Adam in mixed precision, by the paper's formula.

    A parameter takes 10 bytes as weights (bfloat16, and float32 for it and for its moving average), 2 as gradient, 8 in
    the optimizer. Activations are 15 tensors of the tokens a block in bfloat16, the cheap ones worked out again.
    """
    sizes = latent_shape(config, frames, height, width, compression)
    cells = [size // patch for size, patch in zip(sizes, config.patch, strict=True)]
    tokens = (config.views or 1) * cells[0] * cells[1] * cells[2]
    outside, block = _weight_bytes(config, "bfloat16")
    parameters = (outside + config.blocks * sum(block)) // 2
    return TrainingMemory(
        weights=10 * parameters,
        gradients=2 * parameters,
        optimizer=8 * parameters,
        activations=2 * config.blocks * 15 * tokens * batch * config.width,
    )


def options(config: DiTConfig, frames: int, height: int, width: int, *, batch: int = 1) -> list[tuple[str, Memory]]:
    """Peak memory by option, guided, from most to least convenient: what a person tries when a run does not fit."""
    rows: list[tuple[str, Memory]] = []
    for weights in WEIGHTS:
        rows.append((weights, memory(config, frames, height, width, weights=weights, batch=batch)))
    beside = rows[1][1]
    rows.insert(1, ("bfloat16, T5-11B beside it", replace(beside, weights=beside.weights + TEXT_ENCODER_BYTES)))
    for weights in WEIGHTS[1:]:
        rows.append((f"{weights}, paged", memory(config, frames, height, width, weights=weights, ahead=1, batch=batch)))
    last = memory(config, frames, height, width, weights="int8", ahead=1, batch=batch, together=False)
    rows.append(("int8, paged, prompts in turn", last))
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
