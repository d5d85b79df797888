"""What a model in a tokenizer's latents can reach: the true frames, encoded and decoded."""

from collections.abc import Callable

import numpy as np
import torch

from cosmos_tokenizer import ContinuousCodec
from cosmos_tokenizer.media import to_clip, to_frames

RoundTrip = Callable[[np.ndarray], np.ndarray]
"""Frames T H W 3, 8-bit, to the same shape through a tokenizer."""


def round_trip(codec: ContinuousCodec, *, device: str = "cpu") -> RoundTrip:
    """Frames through a tokenizer and back, which is on that device."""

    def through(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            latents = codec.encode(to_clip(frames, device))
            clip = codec.decode(latents, frames=len(frames), size=(frames.shape[1], frames.shape[2]))
        return to_frames(clip)

    return through
