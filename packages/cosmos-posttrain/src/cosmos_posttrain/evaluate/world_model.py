"""Video2World as a predictor of the evaluation."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cosmos_diffusion.pipelines import Placement, Settings, Video2World
from cosmos_tokenizer import ContinuousCodec
from cosmos_tokenizer.media import to_clip, to_frames


class WorldModelPredictor:
    """A Video2World pipeline of the model at `source`; clips' captions are its prompts where it has a text encoder.

    Args:
        source: anything `cosmos_diffusion.load` takes.
        steps, guidance: the model's own by default.
        device: where it runs.

    Raises:
        InputError: no such model, or one that takes no frames.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        steps: int | None = None,
        guidance: int | float | None = None,
        device: str = "cpu",
    ) -> None:
        self._pipeline = Video2World(source, placement=Placement(device=device))
        self._settings: Settings = {}
        if steps is not None:
            self._settings["steps"] = steps
        if guidance is not None:
            self._settings["guidance"] = guidance

    @property
    def codec(self) -> ContinuousCodec:
        """The tokenizer whose latents it predicts."""
        return self._pipeline.codec

    def settings(self) -> dict[str, int | float]:
        """Steps and guidance's weight beyond the prompted prediction, as they are used."""
        request = self._pipeline.request(**self._settings)
        return {"steps": request.steps, "guidance": request.guidance.weight}

    def predict(
        self, given: UInt8[np.ndarray, "K H W 3"], caption: str, *, fps: float, frames: int, seed: int
    ) -> UInt8[np.ndarray, "T H W 3"]:
        """Go on from all given frames, of which there are 1 + a multiple of 8 with a tokenizer that takes 8 as one.

        Raises:
            InputError: the frames are too few or too many, or their size is none that the model makes.
        """
        height, width = given.shape[1:3]
        settings: Settings = {**self._settings, "frames": frames, "height": height, "width": width, "fps": fps}
        generation = self._pipeline(
            None if self._pipeline.text_encoder is None else caption,
            video=to_clip(given),
            condition_frames=len(given),
            seeds=seed,
            **settings,
        )
        return to_frames(generation.video)
