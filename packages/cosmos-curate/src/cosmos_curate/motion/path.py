"""The camera's path through a clip: one similarity for each pair of sampled frames, and what the scene does beside it.

All speeds are root mean squares over the picture, in diagonals a second, so that they compare with one another and
across sizes and rates. A zoom by e or a turn by a radian moves the mean point by 1 / sqrt(12) of the diagonal, whatever
the aspect.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from cosmos_curate.motion.flow import agreement, choose_start, estimate_flow, make_view
from cosmos_curate.motion.similarity import IDENTITY, Similarity, fit_similarity

RADIUS = 12**-0.5
REFINE_PX = 0.4
"""A zoom or a turn that moves the picture more than so many pixels between frames is estimated a second time."""


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Speeds between each sampled frame and the next.

    Args:
        middles_s: halfway between the two, from the clip's start.
        steps_s: from one to the other.
        speeds: of the picture: right, down, growing, clockwise; diagonals a second.
        trust: share of the picture, from 0 to 1, that bears the speeds out.
        rest: mean speed of the scene against the camera's motion, diagonals a second.
    """

    middles_s: Float64[np.ndarray, "N"]
    steps_s: Float64[np.ndarray, "N"]
    speeds: Float64[np.ndarray, "N 4"]
    trust: Float64[np.ndarray, "N"]
    rest: Float64[np.ndarray, "N"]


def follow(pixels: UInt8[np.ndarray, "T H W 1"], times_s: Float64[np.ndarray, "T"]) -> CameraPath:
    """Estimate the path from frames of luma and when they are shown; of one frame it is empty."""
    steps = np.diff(times_s)
    speeds, trust, rest = np.zeros((len(steps), 4)), np.zeros(len(steps)), np.zeros(len(steps))
    before, elapsed = IDENTITY, 1.0
    second = make_view(pixels[0, :, :, 0])
    for index, step in enumerate(steps):
        first, second = second, make_view(pixels[index + 1, :, :, 0])
        start = choose_start(first, second, prolong(before, step / elapsed))
        field = estimate_flow(first, second, start)
        fit = fit_similarity(field.points, field.displacements, field.tensors)
        if np.hypot(fit.log_scale - start.log_scale, fit.angle - start.angle) * RADIUS * first.diagonal > REFINE_PX:
            again = estimate_flow(first, second, fit)
            better = fit_similarity(again.points, again.displacements, again.tensors)
            if better.trust >= fit.trust:
                field, fit = again, better
        known = np.trace(field.tensors, axis1=1, axis2=2)
        apart = np.hypot(*(field.displacements - fit.displacements(field.points)).T)
        speeds[index] = np.array([*fit.shift, fit.log_scale * RADIUS, fit.angle * RADIUS]) / step
        trust[index] = fit.trust * agreement(first, second, fit)
        rest[index] = (known * apart).sum() / max(known.sum(), 1e-9) / step
        before, elapsed = fit, step
    return CameraPath((times_s[1:] + times_s[:-1]) / 2, steps, speeds, trust, rest)


def prolong(motion: Similarity, times: float) -> Similarity:
    """Return the motion that goes on for so many times as long."""
    right, down = motion.shift
    return Similarity(
        shift=(right * times, down * times),
        log_scale=motion.log_scale * times,
        angle=motion.angle * times,
        trust=motion.trust,
    )
