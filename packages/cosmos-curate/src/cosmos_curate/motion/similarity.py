"""Robust fit of a similarity (shift, zoom, turn) to a flow field by Tukey's biweight, from three starts.

Every step is a weighted least squares in four unknowns; the number of steps is fixed and nothing is drawn by lot.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

ABSOLUTE_STEPS, TUKEY_STEPS = 6, 6
TUKEY = 4.685
"""Cut-off in standard deviations: 95 % efficiency on Gaussian errors."""
FLOOR = 3e-4
"""Least standard deviation of a flow's errors, in diagonals: a tenth of a pixel in a picture of 144 by 256."""
NEAR = 10
"""A point within so many of these belongs to the motion."""
MARGIN = 0.01
"""Share of the picture that a second start must win to displace the first."""
PULL = 1e-7
"""Weight of "no motion" against a picture full of texture: it decides where there is none."""
TINY = 1e-12
"""The same where no point has a weight at all."""


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How the picture moves from one frame to the next; x goes right and y down.

    Args:
        shift: of the picture's centre, right and down, in diagonals.
        log_scale: logarithm of the enlargement.
        angle: radians, clockwise as seen.
        trust: share of the picture, from 0 to 1, that has texture and moves so.
    """

    shift: tuple[float, float]
    log_scale: float
    angle: float
    trust: float

    def displacements(self, points: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N 2"]:
        """Return how far each point moves; points from the picture's centre, all in diagonals."""
        a = np.exp(self.log_scale) * np.cos(self.angle) - 1
        b = np.exp(self.log_scale) * np.sin(self.angle)
        return points @ np.array([[a, b], [-b, a]]) + np.array(self.shift)


IDENTITY = Similarity(shift=(0.0, 0.0), log_scale=0.0, angle=0.0, trust=0.0)


def fit_similarity(
    points: Float64[np.ndarray, "N 2"],
    displacements: Float64[np.ndarray, "N 2"],
    tensors: Float64[np.ndarray, "N 2 2"],
) -> Similarity:
    """Fit the motion of most of what can be seen to move.

    Args:
        points: from the picture's centre, in diagonals.
        displacements: of the points, in diagonals.
        tensors: how well each displacement is known in each direction: symmetric, trace from 0 (no texture) to 1;
            along an edge it has no say.

    Returns:
        The similarity; the identity with trust 0 where there is no texture to tell by.
    """
    x, y = points.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    design = np.stack([np.stack([one, zero, x, -y], 1), np.stack([zero, one, y, x], 1)], 1)
    projected = tensors @ design
    normal = np.einsum("nki,nkj->nij", design, projected).reshape(len(x), 16)
    right = np.einsum("nki,nk->ni", projected, displacements)
    known = np.trace(tensors, axis1=1, axis2=2)
    if not known.any():
        return IDENTITY

    def solve(weights: np.ndarray) -> np.ndarray:
        pull = np.eye(4) * (PULL * weights.sum() + TINY)
        return np.linalg.solve((weights @ normal).reshape(4, 4) + pull, weights @ right)

    def misses(solution: np.ndarray) -> np.ndarray:
        errors = displacements - design @ solution
        return np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", errors, tensors, errors), 0))

    # What moves by itself is mostly in the middle, and a still camera leaves something still: each may win by the rim.
    reach = np.abs(points) / np.maximum(np.abs(points).max(0), 1e-9)
    outer = known * (0.5 + 2 * reach.max(1) ** 4)

    def supporters(solution: np.ndarray) -> float:
        return float(outer[misses(solution) < NEAR * FLOOR].sum() / len(known))

    least_absolute = solve(one)
    for _ in range(ABSOLUTE_STEPS):
        least_absolute = solve(1 / np.maximum(misses(least_absolute), FLOOR))
    # Far off the centre a minority has leverage over the first start, none over the second; the third stays put.
    median = np.array([*(weighted_median(one_way, known) for one_way in displacements.T), 0.0, 0.0])
    solution, trust = least_absolute, -1.0
    for tried, most in ((least_absolute, np.inf), (median, np.inf), (np.zeros(4), 2 * FLOOR)):
        for _ in range(TUKEY_STEPS):
            errors = misses(tried)
            sigma = min(max(1.4826 * weighted_median(errors, known), FLOOR), most)
            tried = solve(np.maximum(1 - (errors / (TUKEY * sigma)) ** 2, 0) ** 2)
        if supporters(tried) > trust + MARGIN:
            solution, trust = tried, supporters(tried)
    trust = float(known[misses(solution) < NEAR * FLOOR].sum() / len(known))
    a, b = solution[2] + 1, solution[3]
    return Similarity(
        shift=(float(solution[0]), float(solution[1])),
        log_scale=float(np.log(np.hypot(a, b))),
        angle=float(np.arctan2(b, a)),
        trust=trust,
    )


def weighted_median(values: Float64[np.ndarray, "N"], weights: Float64[np.ndarray, "N"]) -> float:
    """Return the least value at which half of the weight is reached."""
    order = np.argsort(values, kind="stable")
    heaped = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(heaped, heaped[-1] / 2)])
