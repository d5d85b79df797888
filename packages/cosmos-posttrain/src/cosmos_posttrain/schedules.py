"""Learning rate over a run: linear warm-up, a flat stretch, then constant, cosine or linear (arXiv 2501.03575, 5.1)."""

import math
from dataclasses import dataclass
from typing import Literal

from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Factor of the learning rate at each step.

    `warmup`: steps of linear growth from rate / warmup. `shape`: what follows the flat stretch. `flat`: share of the
    run at the full rate, warm-up included. `final`: factor at the end of the run; 0 with "linear" is linear-to-zero.
    """

    warmup: int = 0
    shape: Literal["constant", "cosine", "linear"] = "constant"
    flat: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise InputError(f"schedule.warmup is {self.warmup}: give a number of steps from 0 up")
        if self.shape not in ("constant", "cosine", "linear"):
            raise InputError(f"schedule.shape is {self.shape!r}: use constant, cosine or linear")
        for name in ("flat", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"schedule.{name} is {getattr(self, name)}: it must lie in 0 ... 1")

    def factor(self, step: int, steps: int) -> float:
        """Factor of step 0 ... steps - 1 of a run of so many."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.shape == "constant":
            return 1.0
        begin = max(self.warmup, self.flat * steps)
        done = min(1.0, max(0.0, (step - begin) / max(1.0, steps - begin)))
        left = (1 + math.cos(math.pi * done)) / 2 if self.shape == "cosine" else 1 - done
        return self.final + (1 - self.final) * left
