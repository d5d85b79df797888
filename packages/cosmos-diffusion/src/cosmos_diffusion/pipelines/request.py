"""What clip is asked for and how it is sampled: a pipeline's settings, completed by a model's defaults and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Protocol, TypedDict, runtime_checkable

from torch import Tensor

from cosmos_diffusion.config import DiTConfig, Prediction
from cosmos_diffusion.defaults import Defaults
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.memory import latent_shape
from cosmos_diffusion.samplers import Callback, Denoise, Sigmas, dpmpp_2m, euler, heun, res_2ab, unipc
from cosmos_diffusion.sigmas import schedule
from cosmos_tokenizer import Geometry, InputError


@runtime_checkable
class Sampler(Protocol):
    """A function of ``samplers``, also one with some arguments set by ``functools.partial``."""

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Sigmas, *, callback: Callback | None = None) -> Tensor: ...


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {"euler": euler, "heun": heun, "res_2ab": res_2ab, "dpmpp_2m": dpmpp_2m, "unipc": unipc}
)
"""By name, for command lines."""
RELEASED_SAMPLERS: Mapping[Prediction, Sampler] = MappingProxyType(
    {"edm": res_2ab, "flow": res_2ab, "rectified": unipc}
)
"""What the released networks are sampled with, by ``DiTConfig.prediction``."""


LEAST_FPS, MOST_FPS = 0.1, 1000
"""Frames a second that files can be written with and read again."""


class Settings(TypedDict, total=False):
    """Arguments of a pipeline's call beside prompts and frames; what is left out is the model's own.

    frames: of the clip, given ones included; of each view. 1 + a multiple of the codec's 8 (4 with Wan's codec).
    height, width: in pixels, multiples of 16.
    fps: frames a second, which the network is told; 0.1 to 1000.
    steps: evaluations of the network, or twice as many with guidance; 1 to 10000.
    guidance: a number is the weight of ``cond + weight (cond - uncond)``, 0 for none.
    sampler: a function of ``samplers``.
    guide_frames: drive away also from what is seen without the given frames.
    """

    frames: int
    height: int
    width: int
    fps: int | float
    steps: int
    guidance: Guidance | int | float
    sampler: Sampler
    guide_frames: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Settings, complete and checked: see :func:`complete`. `latents`: frames, rows and columns, of each view."""

    frames: int
    height: int
    width: int
    fps: int | float
    steps: int
    guidance: Guidance
    sampler: Sampler
    guide_frames: bool
    latents: tuple[int, int, int]
    sigmas: tuple[float, ...]

    @property
    def sampler_name(self) -> str:
        """For the metadata."""
        sampler = self.sampler.func if isinstance(self.sampler, partial) else self.sampler
        return getattr(sampler, "__name__", type(sampler).__name__)


def complete(config: DiTConfig, defaults: Defaults, geometry: Geometry, settings: Settings) -> Request:
    """A request of a network and a codec.

    Raises:
        InputError: frames are not 1 + a multiple, sides no multiples, the network takes no clip as large; steps, fps or
            guidance are out of range.
    """
    frames = settings.get("frames", defaults.frames)
    height, width = settings.get("height", defaults.height), settings.get("width", defaults.width)
    fps, steps = settings.get("fps", defaults.fps), settings.get("steps", defaults.steps)
    if not LEAST_FPS <= fps <= MOST_FPS:  # NaN too
        raise InputError(f"fps is {fps}: give a number of frames a second from {LEAST_FPS} to {MOST_FPS}")
    guidance = settings.get("guidance", defaults.guidance)
    return Request(
        frames=frames,
        height=height,
        width=width,
        fps=fps,
        steps=steps,
        guidance=guidance if isinstance(guidance, Guidance) else Guidance(weight=guidance),
        sampler=settings.get("sampler", RELEASED_SAMPLERS[config.prediction]),
        guide_frames=settings.get("guide_frames", defaults.guide_frames),
        latents=latent_shape(config, frames, height, width, (geometry.temporal, geometry.spatial)),
        sigmas=tuple(schedule(config.prediction, steps).tolist()),
    )


def check_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """One seed or several, as several.

    Raises:
        InputError: there is none, or one is out of range.
    """
    several = (seeds,) if isinstance(seeds, int) else tuple(seeds)
    if not several:
        raise InputError("no seed is given: give one, or leave it out")
    for seed in several:
        if not 0 <= seed < 1 << 63:
            raise InputError(f"seed is {seed}: give a whole number from 0 to {(1 << 63) - 1}")
    return several
