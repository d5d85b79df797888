"""Strength of block edges: steps of luma that recur with the period of a codec's blocks.

After Muijs and Kirenko, A no-reference blocking artifact measure for adaptive video processing, EUSIPCO 2005: a step
counts by how much it exceeds its neighbours', and the grid is found, not assumed, as cropping and scaling move it.
"""

import numpy as np
from jaxtyping import Float32, Float64

PERIODS = (8.0, 16.0, 12.0, 16 / 3, 6.0, 32 / 3)
"""Pixels between block edges: of 8 and 16, and those after scaling by 3/2, 2/3, 3/4 and 4/3."""

_PHASES = 4


def step_profile(luma: Float32[np.ndarray, "H W"]) -> Float64[np.ndarray, "S"]:
    """Return, for each boundary between two columns, the mean excess of its step over the steps beside it.

    Steps are limited to 16 levels, as a codec's blocks do not differ by more where edges of things do.
    """
    steps = np.abs(np.diff(luma, axis=1))
    np.minimum(steps, 16, out=steps)
    excess = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    return np.concatenate([[0.0], excess.mean(0, dtype=np.float64), [0.0]])


def _strongest(profile: Float64[np.ndarray, "S"], spread: float) -> float:
    """Return by how many levels the best grid's steps exceed others, less what chance would give."""
    best = 0.0
    count = len(profile)
    for period in PERIODS:
        lines = int((count - 2) / period)
        if lines < 4:
            continue
        for phase in np.arange(0, period, 1 / _PHASES if period != int(period) else 1).tolist():
            at = np.rint(phase + period * np.arange(lines)).astype(np.int64)
            chosen = profile[at[at < count]]
            best = max(best, float(chosen.mean()) - 4 * spread / len(chosen) ** 0.5)
    return best


def blockiness(lumas: Float32[np.ndarray, "T H W"]) -> float:
    """Return the strength of block edges over a clip's frames in levels of luma, 0 for none.

    The grid is the same in all frames and in both directions, so profiles are averaged over frames first.
    """
    if lumas.shape[1] < 40 or lumas.shape[2] < 40:
        return 0.0
    found = []
    for turned in (lumas, lumas.transpose(0, 2, 1)):
        profile = np.mean([step_profile(picture) for picture in turned], axis=0)
        spread = float(np.median(np.abs(profile - np.median(profile)))) * 1.4826
        found.append(_strongest(profile, spread))
    return (found[0] * found[1]) ** 0.5 if min(found) > 0 else 0.0
