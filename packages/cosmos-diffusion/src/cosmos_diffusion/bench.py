"""What a diffusion world model takes on this machine: seconds of one forward and of one sample, beside their FLOPs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.memory import flops, latent_shape
from cosmos_diffusion.samplers import euler
from cosmos_diffusion.sigmas import schedule
from cosmos_diffusion.step_cache import StepCache
from cosmos_diffusion.world_model import WorldModel

PUBLISHED = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12}
"""bfloat16 operations a second of dense matrix products, by what the name of a GPU holds (NVIDIA's data sheets)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Medians in seconds, operations counted as `memory.flops` does.

    `forward` is of one prediction with text and noise level prepared, `sample` of a clip with all its preparations.
    `share` is of `peak`, operations a second: of bfloat16 as published, or the largest measured in matrix products.
    `evaluations` counts forwards of one clip; `reused` those of them in which a step cache ran the first block alone.
    """

    forward: float
    forward_flops: int
    sample: float
    sample_flops: int
    evaluations: int
    reused: int
    peak: float

    @property
    def share(self) -> float:
        """Of the peak, of one forward."""
        return self.forward_flops / self.forward / self.peak


def random_model(config: DiTConfig, device: torch.device, dtype: torch.dtype) -> WorldModel:
    """A world model whose weights say nothing, made where and as it shall be."""
    with torch.device("meta"):
        world = WorldModel(config)
    world = world.to(dtype).to_empty(device=device).eval()
    for value in [*world.parameters(), *world.buffers()]:
        value.detach().normal_(std=0.02)
    return world


@torch.no_grad()
def bench(
    world: WorldModel,
    *,
    frames: int,
    height: int,
    width: int,
    steps: int,
    guidance: int | float,
    repeat: int,
    threshold: int | float = 0,
) -> Found:
    """Time a world model on its device.

    Args:
        world: the model.
        frames, height, width: of the clip in pixels, of a codec of 8x8x8; with views, of one.
        steps: of the sampler.
        guidance: weight of ``cond + weight (cond - uncond)``, 0 for one prediction a step.
        repeat: runs of each; a forward that does not count comes before.
        threshold: of a step cache, 0 for none.

    Raises:
        InputError: the network does not take such a clip, or steps are out of range.
    """
    config, device, views = world.config, world.net.device, max(1, world.config.views)
    count, rows, columns = latent_shape(config, frames, height, width)
    levels = schedule(config.prediction, steps)
    x = torch.randn(1, config.latent_channels, views * count, rows, columns, device=device)
    text = torch.randn(1, views * config.text_length, config.text_projection or config.text_width, device=device)
    tokens = None
    if config.token_channels:
        tokens = torch.zeros(1, count, max(1, rows // 2), max(1, columns // 2), dtype=torch.int64, device=device)
    conditions = Conditions(tokens=tokens)
    given = world.given(x[:, :, :views], views * count) if config.condition_mask and count > 1 else None
    cache = StepCache(threshold) if threshold else None

    def sample() -> Tensor:
        told = {"fps": 24, "given": given, "conditions": conditions, "cache": cache}
        return euler(world.denoiser(text, guidance=guidance, **told), float(levels[0]) * x, levels)

    net = world.net
    level, context = net.prepare_level(x.new_ones(1)), net.prepare_text(text, views=views)
    forward = _seconds(lambda: net(x, level, context, fps=24, tokens=tokens), repeat, device, warm=True)
    spent = _seconds(sample, repeat, device)
    evaluations = steps * (2 if guidance else 1)
    size = (config, frames, height, width)
    one = flops(*size, prepared=True)
    preparations = (2 if guidance else 1) * (flops(*size) - one)
    return Found(
        forward=forward,
        forward_flops=one,
        sample=spent,
        sample_flops=evaluations * one + preparations,
        evaluations=evaluations,
        reused=0 if cache is None else cache.reused * (2 if guidance else 1) // repeat,
        peak=published_peak(device) or peak_flops(device, net.dtype),
    )


def published_peak(device: torch.device) -> float | None:
    """bfloat16 operations a second of a GPU that is known; None of any other device."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PUBLISHED.items() if part in name), None)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Most operations a second that a matrix product reached here, of several sizes and runs."""
    best = 0.0
    for side in (8192,) if device.type == "cuda" else (512, 1024):
        a: Float[Tensor, "n n"] = torch.randn(side, side, device=device).to(dtype)
        product = a @ a
        for _ in range(10):
            best = max(
                best, 2 * side**3 / _seconds(lambda a=a, product=product: torch.mm(a, a, out=product), 1, device)
            )
    return best


def _seconds(run: Callable[[], object], repeat: int, device: torch.device, *, warm: bool = False) -> float:
    """Median; on a CPU of the clock, as a person waits."""
    found = []
    for turn in range(repeat + warm):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if turn >= warm:
            found.append(time.perf_counter() - start)
    return median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
