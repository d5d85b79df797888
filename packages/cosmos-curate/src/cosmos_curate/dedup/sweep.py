"""How many clips would go at other thresholds, from one pass of similarities."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One threshold.

    Args:
        eps: the threshold.
        share: of all clips, those that are near a clip of higher rank, or copies by bytes or hash. It is what SemDeDup
            removes; a run at this eps removes a little less, as it keeps links of chains.
    """

    eps: float
    share: float


def sweep(found: Float32[np.ndarray, "N"], exact: int, total: int, values: tuple[float, ...]) -> tuple[SweepPoint, ...]:
    """Return a point for each eps, rising.

    Args:
        found: largest cosine of each row to one of higher rank, without rows that are copies by bytes or hash.
        exact: how many are copies by bytes or hash.
        total: all clips.
    """
    ordered = np.sort(found)
    points = []
    for eps in sorted(set(values)):
        near = len(ordered) - int(np.searchsorted(ordered, np.float32(1 - eps)))
        points.append(SweepPoint(eps=eps, share=(near + exact) / total if total else 0.0))
    return tuple(points)
