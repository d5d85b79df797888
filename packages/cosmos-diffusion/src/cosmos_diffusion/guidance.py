"""Classifier-free guidance (arXiv 2207.12598) in both conventions, and within an interval of noise (2404.07724)."""

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import InputError

Convention = Literal["beyond", "between"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """How far the prediction is driven from the one without the prompt, or with a negative one.

    `convention`: "beyond" is ``cond + weight (cond - uncond)``, the family's own (7 by default there; 0 is none; other
    code calls this weight + 1). "between" is ``uncond + weight (cond - uncond)``, the usual scale, as Predict2.5
    has it (1 is none).

    `low`, `high`: guidance acts at ``low < sigma <= high``, and elsewhere ``cond`` stands alone, at half the cost.

    Raises:
        InputError: a value is not finite, or the interval is empty.
    """

    weight: int | float = 7
    convention: Convention = "beyond"
    low: int | float = 0
    high: int | float = math.inf

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise InputError(f"guidance is {self.weight}: it must be a finite number")
        if self.convention not in ("beyond", "between"):
            raise InputError(f"guidance convention is {self.convention!r}: use beyond or between")
        if not 0 <= self.low < self.high:
            raise InputError(f"guidance acts between {self.low} and {self.high}: give 0 <= low < high")

    @property
    def beyond(self) -> float:
        """The weight in the convention "beyond"; 0 where guidance does nothing."""
        return float(self.weight if self.convention == "beyond" else self.weight - 1)

    def acts(self, sigma: int | float) -> bool:
        """Whether a prediction without the prompt is needed at that level."""
        return self.beyond != 0 and self.low < sigma <= self.high

    def __call__(self, cond: Float[Tensor, "*B"], uncond: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The guided prediction; of ``D``, or of ``F``, which comes to the same."""
        return cond + self.beyond * (cond - uncond)
