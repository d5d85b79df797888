"""What a pipeline does with a model unless it is told otherwise (arXiv 2501.03575, section 5.1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cosmos_diffusion.config import Prediction
from cosmos_diffusion.negative_prompt import NEGATIVE_PROMPT
from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """The clips that a model was made for, and how it is sampled.

    `tokenizer`: whose latents it speaks of, as ``cosmos_tokenizer.load`` takes it; None where that cannot load it.
    `frames` of `height` by `width` pixels at `fps` a second. `guidance`: weight of ``cond + weight (cond - uncond)``.
    `guide_frames`: it leads away also from what is seen without the given frames. `negative`: prompt that it leads away
    from; an empty one is no text.

    Raises:
        InputError: a value is of another type or out of range.
    """

    tokenizer: str | None
    frames: int
    height: int
    width: int
    fps: int | float
    steps: int = 35
    guidance: int | float = 7
    guide_frames: bool = False
    negative: str = ""

    def __post_init__(self) -> None:
        for name in ("frames", "height", "width", "steps"):
            whole = getattr(self, name)
            if type(whole) is not int or whole < 1:
                raise InputError(f"defaults: {name} is {whole!r}: it must be a whole number from 1 up")
        for name in ("fps", "guidance"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value):  # of JSON, where words may stand
                raise InputError(f"defaults: {name} is {value!r}: it must be a finite number")
        if self.fps <= 0:
            raise InputError(f"defaults: fps is {self.fps}: it must be positive")
        if not isinstance(self.guide_frames, bool):
            raise InputError(f"defaults: guide_frames is {self.guide_frames!r}: it must be true or false")
        if not isinstance(self.negative, str) or not isinstance(self.tokenizer, str | None):
            raise InputError(f"defaults: tokenizer is {self.tokenizer!r} and negative {self.negative!r}: give text")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Defaults":
        """Defaults from decoded JSON.

        Raises:
            InputError: a field is unknown, missing, of another type or out of range.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            raise InputError(f"not the defaults of a world model: {error}") from error


RELEASED: Mapping[Prediction, Defaults] = MappingProxyType(
    {
        "edm": Defaults(
            tokenizer="cv8x8x8-720p", frames=121, height=704, width=1280, fps=24.0, negative=NEGATIVE_PROMPT
        ),
        "flow": Defaults(tokenizer=None, frames=93, height=704, width=1280, fps=16.0, negative=NEGATIVE_PROMPT),
        "rectified": Defaults(
            tokenizer=None, frames=93, height=704, width=1280, fps=16.0, steps=36, negative=NEGATIVE_PROMPT
        ),
    }
)
"""Those of the released networks, by ``DiTConfig.prediction``; Predict2's and 2.5's codec is ``wan.WanCodec``."""
