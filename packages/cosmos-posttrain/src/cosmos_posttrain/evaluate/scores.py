"""How near a predicted clip comes to the true one, on the frames behind the conditioning frames (section 5.3.2).

IoU. Of each object k and frame t: that of the pixels that show the object in the prediction, by hue
(`colour_objects`), and its exact mask in the truth. Where neither has `LEAST_PIXELS` pixels the object has left, or is
hidden, in both, and it is 1. Objects count that the last conditioning frame shows; the same for every method.

Motion-weighted IoU. Each object and frame has the weight w = 1 - IoU(its exact mask in the last conditioning frame, its
exact mask now): 0 while it stands still, 1 once it has left its place. A clip's is sum(w IoU) / sum(w); several clips'
is the mean over clips of mean(w IoU) over the mean over clips of mean(w), so that a clip without motion weighs nothing.

Error where truth or prediction changes. A pixel of a frame changes where any channel is more than `CHANGE` levels away
from the last conditioning frame. The region of a prediction is where the truth or the prediction changes. Its squared
error there is compared with the squared error of the last conditioning frame over the same region: their ratio, of
sums over pixels, is 1 for copy-last-frame and less for what is nearer to the truth. Several clips' is the ratio of
means over clips.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from cosmos_posttrain.evaluate.colour_objects import LEAST_PIXELS, exact_objects, reference_colours
from cosmos_tokenizer.metrics import psnr_per_frame, ssim_per_frame

CHANGE = 24
"""Levels of 255, in the most different channel: more than coding and a tokenizer change in most still pixels."""
MOST_PSNR = 100.0
"""Decibels of an identical frame, and of any above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One prediction of one clip. The last five are means over objects and frames, or over pixels and frames."""

    psnr: float
    """Decibels, the mean over frames of each frame's, 100 at most."""
    ssim: float
    """Mean over frames; uniform window of 7x7."""
    iou: float
    """From 0 to 1; NaN where the last conditioning frame shows no object."""
    motion: float
    """Mean weight of objects and frames, from 0 to 1; 0 where there is no object."""
    moved_iou: float
    """Mean of weight times IoU."""
    error: float
    """Mean of the squared error over all pixels, those outside the region counted as 0, in squared levels."""
    still_error: float
    """That of the last conditioning frame over the same region."""

    def figures(self) -> dict[str, float]:
        """All numbers by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def score(
    truth: UInt8[np.ndarray, "T H W 3"],
    masks: UInt8[np.ndarray, "T H W"],
    predicted: UInt8[np.ndarray, "_T _H _W 3"],
    *,
    given: int,
) -> Score:
    """Score a prediction that was given the first `given` frames, of which only the frames behind these count.

    Args:
        truth: the whole clip.
        masks: its exact ones, k + 1 where a pixel shows object k.
        predicted: as long as the truth.
        given: conditioning frames, 1 to T - 1.

    Raises:
        ValueError: the lengths or sizes differ, or no frame is left to be scored.
    """
    if not truth.shape == predicted.shape == (*masks.shape, 3):
        raise ValueError(f"truth {truth.shape}, prediction {predicted.shape} and masks {masks.shape} differ in size")
    if not 0 < given < len(truth):
        raise ValueError(
            f"{given} conditioning frames of {len(truth)} leave nothing to score; give 1 or more, and fewer"
        )
    objects = reference_colours(truth[:given], masks[:given])
    exact = exact_objects(masks, objects.numbers)
    overlap = overlaps(objects.find(predicted[given:]), exact[:, given:])
    weights = 1 - overlaps(np.broadcast_to(exact[:, given - 1 : given], exact[:, given:].shape), exact[:, given:])
    after, other, last = truth[given:], predicted[given:], truth[given - 1]
    region = changes(after, last) | changes(other, last)
    pair = torch.from_numpy(after), torch.from_numpy(np.ascontiguousarray(other))
    return Score(
        psnr=float(psnr_per_frame(*pair).clamp_max(MOST_PSNR).mean()),
        ssim=float(ssim_per_frame(*pair).mean()),
        iou=float(overlap.mean()) if overlap.size else float("nan"),
        motion=float(weights.mean()) if weights.size else 0.0,
        moved_iou=float((weights * overlap).mean()) if weights.size else 0.0,
        error=_squared(other, after, region),
        still_error=_squared(last, after, region),
    )


def overlaps(found: Bool[np.ndarray, "*N H W"], exact: Bool[np.ndarray, "*N H W"]) -> Float[np.ndarray, " *N"]:
    """Return the IoU of every pair of masks, 1 where both are smaller than `LEAST_PIXELS`."""
    shared, either = (found & exact).sum((-2, -1)), (found | exact).sum((-2, -1))
    absent = np.maximum(found.sum((-2, -1)), exact.sum((-2, -1))) < LEAST_PIXELS
    return np.where(absent, 1.0, shared / np.maximum(either, 1))


def changes(frames: UInt8[np.ndarray, "T H W 3"], last: UInt8[np.ndarray, "H W 3"]) -> Bool[np.ndarray, "T H W"]:
    """Tell which pixels differ from the last conditioning frame by more than `CHANGE`."""
    return np.abs(frames.astype(np.int16) - last).max(-1) > CHANGE


def _squared(frames: np.ndarray, truth: np.ndarray, region: np.ndarray) -> float:
    squares = (frames.astype(np.float64) - truth) ** 2
    return float((squares.mean(-1) * region).mean())
