"""Noise for training and sampling: levels (arXiv 2501.03575, section 5.1; 2206.00364, section 5) and Gaussian draws.

Every draw follows from a generator. One that lives on the CPU gives the same numbers for any device.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.config import Prediction
from cosmos_tokenizer import InputError


def gaussian(
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "..."]:
    """Noise of unit variance, drawn where the generator lives, or else where it shall be."""
    where = device if generator is None else generator.device
    return torch.randn(*shape, generator=generator, device=where, dtype=dtype).to(device)


def uniform(count: int, *, generator: torch.Generator | None, device: torch.device | str) -> Float[Tensor, " B"]:
    """Numbers in [0, 1), drawn where the generator lives, or else where they shall be."""
    where = device if generator is None else generator.device
    return torch.rand(count, generator=generator, device=where).to(device)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingLevels:
    """``ln sigma ~ N(mean, std**2)``, times ``shift``, and where `by_frames` times the root of the latent frames.

    Frames resemble one another, so a clip needs more noise than a picture before nothing of it is seen. Of a flow,
    this is the logit-normal time of arXiv 2403.03206 (equation 19), and `shift` its shift (equation 23).

    `tail`: share of levels drawn log-uniformly from `tail_range` instead, for a network that starts from far out.

    Raises:
        InputError: a value is out of range.
    """

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    by_frames: bool = True
    tail: float = 0.0
    tail_range: tuple[float, float] = (200.0, 100000.0)

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise InputError(f"levels.mean is {self.mean}: it must be a finite number")
        if not 0 <= self.std < math.inf:
            raise InputError(f"levels.std is {self.std}: it must be 0 or more")
        if not self.shift > 0:
            raise InputError(f"levels.shift is {self.shift}: it must be positive")
        if not 0 <= self.tail <= 1:
            raise InputError(f"levels.tail is {self.tail}: give a share from 0 to 1")
        if not 0 < self.tail_range[0] <= self.tail_range[1]:
            raise InputError(f"levels.tail_range is {self.tail_range}: give two positive numbers, the smaller first")

    def sample(
        self,
        count: int,
        *,
        frames: int,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, " B"]:
        """Levels of ``count`` clips of so many latent frames (of one view; a picture has 1), in float32."""
        offset = self.mean + math.log(self.shift) + (math.log(frames) / 2 if self.by_frames else 0.0)
        logs = gaussian((count,), generator=generator, device=device) * self.std + offset
        if self.tail:
            low, high = (math.log(end) for end in self.tail_range)
            far = low + (high - low) * uniform(count, generator=generator, device=device)
            logs = torch.where(uniform(count, generator=generator, device=device) < self.tail, far, logs)
        return logs.exp()


TRAINING_LEVELS: Mapping[Prediction, TrainingLevels] = MappingProxyType(
    {
        "edm": TrainingLevels(),
        "flow": TrainingLevels(tail=0.05),
        "rectified": TrainingLevels(shift=5.0, by_frames=False),
    }
)
"""As the released networks were trained, by ``DiTConfig.prediction``."""
