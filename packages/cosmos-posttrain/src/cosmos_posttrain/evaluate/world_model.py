"""Video2World as a predictor of the evaluation."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cosmos_diffusion import load
from cosmos_diffusion.codecs import load_codec
from cosmos_diffusion.defaults import RELEASED
from cosmos_diffusion.pipelines import Placement, Settings, Video2World
from cosmos_tokenizer import ContinuousCodec
from cosmos_tokenizer.media import to_clip, to_frames


class WorldModelPredictor:
    """A Video2World pipeline of the model at `source`; clips' captions are its prompts where it has a text encoder.

    Args:
        source: anything `cosmos_diffusion.load` takes.
        tokenizer: anything `cosmos_diffusion.codecs.load_codec` takes, for a model that names none itself,
            or a released one, whose weights are a checkpoint of their own.
        steps, guidance: the model's own by default.
        device: where it runs.

    Raises:
        InputError: no such model or tokenizer, or a model that takes no frames.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        tokenizer: str | Path | None = None,
        steps: int | None = None,
        guidance: int | float | None = None,
        device: str = "cpu",
    ) -> None:
        world = load(source)
        codec = None
        if tokenizer is not None and world.defaults.tokenizer in (None, RELEASED["edm"].tokenizer):  # no weights here
            codec = load_codec(tokenizer, prediction=world.config.prediction)
        self._pipeline = Video2World(world, codec=codec, placement=Placement(device=device))
        self._settings: Settings = {}
        if steps is not None:
            self._settings["steps"] = steps
        if guidance is not None:
            self._settings["guidance"] = guidance

    @property
    def codec(self) -> ContinuousCodec:
        """The tokenizer whose latents it predicts."""
        return self._pipeline.codec

    @property
    def names_tokenizer(self) -> bool:
        """Whether the model itself says which tokenizer that is."""
        return self._pipeline.world.defaults.tokenizer is not None

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
