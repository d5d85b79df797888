"""Weights of terms over training: step functions of the step, and those of NVIDIA's released training code."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSchedule:
    """A value that changes at given steps: ``values[0]`` before ``boundaries[0]``, ``values[1]`` from there on, ..."""

    values: tuple[float, ...]
    boundaries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1:
            raise InputError(
                f"{len(self.values)} values and {len(self.boundaries)} boundaries: give one value more than boundaries"
            )
        if any(a >= b for a, b in pairwise((0, *self.boundaries))):
            raise InputError(f"boundaries {self.boundaries} must be positive and ascend")

    def at(self, step: int) -> float:
        """Value at a step, counted from 0."""
        return self.values[sum(step >= boundary for boundary in self.boundaries)]


RELEASED: Mapping[str, StepSchedule] = {
    "colour": StepSchedule(values=(1.0,)),
    "perceptual": StepSchedule(values=(0.1, 0.073), boundaries=(500_000,)),
    "flow": StepSchedule(values=(0.0, 0.01), boundaries=(250_000,)),
    "gram": StepSchedule(values=(0.0, 0.062), boundaries=(500_000,)),
}
"""Defaults of the released code, from random weights."""

POST_TRAINING: Mapping[str, StepSchedule] = {
    "colour": StepSchedule(values=(1.0,)),
    "perceptual": StepSchedule(values=(0.1,)),
}
"""Its post-training recipe: the other terms are off."""
