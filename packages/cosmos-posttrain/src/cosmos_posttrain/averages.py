"""Moving averages of the weights: plain decay, and the power-function profile of EDM2 (arXiv 2312.02696, section 3).

Several run side by side in float32, cut over processes like the weights themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """One profile: a `decay` a step, which a young average undercuts, or a relative `width` of the power function.

    The power function's width is the standard deviation of the profile as a share of the run, as in EDM2 (0.05, 0.10);
    it forgets early weights at the same pace however long the run.
    """

    decay: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if (self.decay is None) == (self.width is None):
            raise InputError(f"average has decay {self.decay} and width {self.width}: give one of them")
        if self.decay is not None and not 0 <= self.decay < 1:
            raise InputError(f"average.decay is {self.decay}: it must lie in 0 ... 1, and below 1")
        # A wider profile than the uniform one's 12**-0.5 would weigh early weights more than late ones.
        if self.width is not None and not 0 < self.width < 12**-0.5:
            raise InputError(f"average.width is {self.width}: it must lie between 0 and {12**-0.5:.3f}")

    @property
    def name(self) -> str:
        """Short name in checkpoints, such as ``decay-0.999`` or ``width-0.1``."""
        return f"decay-{self.decay:g}" if self.decay is not None else f"width-{self.width:g}"

    def kept(self, step: int) -> float:
        """Share of the average that step 1, 2, ... keeps of what was before; the first keeps none of it."""
        if self.decay is not None:
            return min(self.decay, (step - 1) / (step + 8))
        assert self.width is not None
        return (1 - 1 / step) ** (power(self.width) + 1)


def power(width: float) -> float:
    """Exponent of the power function whose profile has that relative standard deviation (EDM2, appendix C)."""
    inverse = width**-2
    return float(max(root.real for root in np.roots([1, 7, 16 - inverse, 12 - inverse]) if abs(root.imag) < 1e-9))


class Averages:
    """Averages of named parameters under several profiles."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], profiles: Sequence[Average]) -> None:
        self.profiles = tuple(profiles)
        self._parameters = dict(parameters)
        self._held = {
            profile.name: {name: value.detach().float().clone() for name, value in parameters.items()}
            for profile in self.profiles
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Count in the weights after step 1, 2, ..."""
        current = [_local(value).float() for value in self._parameters.values()]
        for profile in self.profiles:
            averaged = [_local(value) for value in self._held[profile.name].values()]
            torch._foreach_lerp_(averaged, current, 1 - profile.kept(step))  # pyright: ignore[reportPrivateImportUsage]

    def tensors(self) -> dict[str, Tensor]:
        """All averages by ``PROFILE.PARAMETER``; what a checkpoint saves and loads in place."""
        return {f"{profile}.{name}": value for profile, held in self._held.items() for name, value in held.items()}

    @torch.no_grad()
    def copy_to_parameters(self, profile: Average) -> None:
        """Give the parameters the averaged values."""
        for name, parameter in self._parameters.items():
            _local(parameter).copy_(_local(self._held[profile.name][name]))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters have the values of the first profile inside the block, and then their own again."""
        if not self.profiles:
            yield
            return
        own = [_local(value).detach().clone() for value in self._parameters.values()]
        self.copy_to_parameters(self.profiles[0])
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters.values(), own, strict=True):
                    _local(parameter).copy_(value)


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value
