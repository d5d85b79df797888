"""The physics evaluation: predictions of rendered clips beside baselines and the ceiling (arXiv 2501.03575, 5.3.2).

Methods: the model; the last conditioning frame held still; objects at constant velocity; the tokenizer's round trip of
the true frames, which a model in its latents can hardly pass; and the true frames themselves, whose IoU tells how well
objects are found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.evaluate.baselines import constant_velocity, copy_last_frame
from cosmos_posttrain.evaluate.ceiling import RoundTrip
from cosmos_posttrain.evaluate.scores import Score, score
from cosmos_posttrain.evaluate.world_clips import ClipFile, WorldClip, check_lengths
from cosmos_tokenizer import InputError
from cosmos_tokenizer.progress import Progress

MODEL, COPY, VELOCITY, ROUND_TRIP, TRUTH = (
    "model",
    "copy last frame",
    "constant velocity",
    "tokenizer round trip",
    "true frames",
)
"""Names of the methods, in the order of tables."""


@runtime_checkable
class Predictor(Protocol):
    """Anything that goes on with a clip; satisfied without inheriting."""

    def predict(
        self, given: UInt8[np.ndarray, "K H W 3"], caption: str, *, fps: float, frames: int, seed: int
    ) -> UInt8[np.ndarray, "T H W 3"]:
        """Return `frames` frames in all, of which the first K stand for those given and are not scored."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method on one clip; `seed` is None for what has none."""

    clip: str
    scene: str
    given: int
    """Conditioning frames."""
    method: str
    seed: int | None
    score: Score


def evaluate(
    clips: Sequence[ClipFile],
    *,
    predictor: Predictor | None = None,
    round_trip: RoundTrip | None = None,
    conditioning: Sequence[int] = (1, 9),
    seeds: Sequence[int] = (0,),
) -> list[Row]:
    """Score every method on every clip, and show progress on standard output.

    Args:
        clips: see `find_clips`.
        predictor: the model; None for the baselines alone.
        round_trip: of the tokenizer; None leaves that line out.
        conditioning: numbers of conditioning frames.
        seeds: of the model, which predicts each clip once with each.

    Raises:
        InputError: a clip is damaged or too short, or a prediction has another length or size than the clip.
    """
    check_lengths(clips, conditioning)
    rows = []
    with Progress(max(1, len(clips) * len(conditioning))) as progress:
        for file in clips:
            progress.start(file.key)
            clip = file.read()
            again = None if round_trip is None else round_trip(clip.frames)
            for given in conditioning:
                predictions: list[tuple[str, int | None, np.ndarray]] = []
                if predictor is not None:
                    predictions += [(MODEL, seed, _predicted(predictor, clip, given, seed)) for seed in seeds]
                predictions += [(name, None, frames) for name, frames in _references(clip, given, again)]
                rows += [
                    Row(
                        clip=clip.key,
                        scene=clip.scene,
                        given=given,
                        method=method,
                        seed=seed,
                        score=score(clip.frames, clip.masks, frames, given=given),
                    )
                    for method, seed, frames in predictions
                ]
                progress.advance(1.0)
    return rows


def _references(clip: WorldClip, given: int, again: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    first, masks, frames = clip.frames[:given], clip.masks[:given], len(clip.frames)
    references = [
        (COPY, copy_last_frame(first, frames=frames)),
        (VELOCITY, constant_velocity(first, masks, frames=frames)),
    ]
    references += [] if again is None else [(ROUND_TRIP, again)]
    return [*references, (TRUTH, clip.frames)]


def _predicted(predictor: Predictor, clip: WorldClip, given: int, seed: int) -> np.ndarray:
    frames = predictor.predict(clip.frames[:given], clip.caption, fps=clip.fps, frames=len(clip.frames), seed=seed)
    if frames.dtype != np.uint8 or frames.shape != clip.frames.shape:
        raise InputError(
            f"{clip.key}: the model made {frames.dtype} frames {frames.shape}, and the clip's are uint8 "
            f"{clip.frames.shape}; render clips of a size and length that it makes"
        )
    return frames
