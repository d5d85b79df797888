"""Which of a clip's frames a sampling takes, by the times they are shown at."""

from collections.abc import Sequence

from cosmos_curate.media.frames import Sampling

GRACE_S = 0.0005
"""A frame so little early is still on time: Matroska rounds times to a millisecond."""


def due(time_s: float, rate: float | None, tick: int) -> tuple[bool, int]:
    """Tell whether a frame is the first at or after `tick / rate` seconds, and which tick is waited for next.

    Args:
        time_s: when the frame is shown, from the clip's start.
        rate: ticks a second; None takes every frame.
    """
    if rate is None:
        return True, tick
    if time_s + GRACE_S < tick / rate:
        return False, tick
    return True, max(tick, int((time_s + GRACE_S) * rate)) + 1


def chosen(times_s: Sequence[float], sampling: Sampling) -> frozenset[int]:
    """Return which of the frames shown at these rising times a sampling takes; none of none."""
    taken: list[int] = []
    tick = 0
    for index, time in enumerate(times_s):
        take, tick = due(time - times_s[0], sampling.rate, tick)
        if take:
            taken.append(index)
    n, most = len(taken), sampling.most
    if most is None or n <= most:
        return frozenset(taken)
    return frozenset(taken[j] for j in spread(n, most))


def spread(n: int, most: int) -> list[int]:
    """Return `most` of `n` indices, evenly and symmetrically.

    Index j is the i-th if (j + 1/2) / n is nearest to (i + 1/2) / most; of two as near, the one further outside.
    """
    picks = []
    for i in range(most):
        target = (2 * i + 1) * n - most  # j = target / (2 * most)
        early = 2 * i + 1 <= most
        picks.append(-((most - target) // (2 * most)) if early else (target + most) // (2 * most))
    return picks
