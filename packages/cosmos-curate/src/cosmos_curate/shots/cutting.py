"""Spans of clips from shots, by the times that frames are really shown at (arXiv 2501.03575, section 3.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cosmos_curate.errors import InputError
from cosmos_curate.media.spans import Span
from cosmos_curate.shots.shot import Shot

GRACE_S = 0.0005
"""Times this close count as equal: Matroska rounds them to a millisecond."""
FEWEST = 2
"""Frames of the shortest span."""


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """How shots become spans.

    Args:
        guard_s: cut off both ends of every shot, where a detector leaves remains of transitions.
        longest_s: what is longer is cut into equal parts.
    """

    guard_s: float = 0.5
    longest_s: float = 60.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.guard_s) and self.guard_s >= 0):
            raise InputError(f"guard_s is {self.guard_s}: give seconds, 0 or more")
        if not self.longest_s > 0:
            raise InputError(f"longest_s is {self.longest_s}: give seconds above 0, inf for no limit")


def cut(shots: Sequence[Shot], frame_times_s: Float64[np.ndarray, "edges"], config: CutConfig) -> list[Span]:
    """Return the spans of a video's shots, in order.

    The guard comes first, at the shots' own ends alone; what remains is then cut where it is too long, so that parts
    touch and nothing is lost between them. No span is refused for being short, that is a rule on the manifest, except
    those of fewer than two frames. Frames more than `longest_s` apart make parts longer than that.

    Args:
        frame_times_s: when each frame is shown, and the end of the last.
    """
    spans = []
    for shot in shots:
        first, end = _guarded(shot, frame_times_s, config.guard_s)
        if end - first < FEWEST:
            continue
        edges = _parts(frame_times_s[first : end + 1], config.longest_s)
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            a, b = first + a, first + b
            spans.append(Span(first=a, end=b, start_s=float(frame_times_s[a]), end_s=float(frame_times_s[b])))
    return spans


def _guarded(shot: Shot, times: np.ndarray, guard_s: float) -> tuple[int, int]:
    first = int(np.searchsorted(times, times[shot.first] + guard_s - GRACE_S))
    end = int(np.searchsorted(times, times[shot.end] - guard_s + GRACE_S, side="right")) - 1
    return max(first, shot.first), min(end, shot.end)


def _parts(times: np.ndarray, longest_s: float) -> list[int]:
    """Return the edges of the fewest equal parts that are short enough, each of two frames or more."""
    frames, length = len(times) - 1, float(times[-1] - times[0])
    fewest = max(1, math.ceil((length - GRACE_S) / longest_s))
    edges = [0, frames]
    # Snapping to frames may lengthen a part by one frame, so one part more may be needed; twice as many at the most.
    for parts in range(min(fewest, frames // FEWEST), min(2 * fewest + 1, frames // FEWEST) + 1):
        edges = _equal(times, parts)
        if float(np.diff(times[edges]).max()) <= longest_s + GRACE_S:
            break
    return edges


def _equal(times: np.ndarray, parts: int) -> list[int]:
    edges = [0]
    for k in range(1, parts):
        wanted = times[0] + (times[-1] - times[0]) * k / parts
        after = int(np.searchsorted(times, wanted))
        near = after - 1 if wanted - times[after - 1] <= times[after] - wanted else after
        edges.append(min(max(near, edges[-1] + FEWEST), len(times) - 1 - FEWEST * (parts - k)))
    return [*edges, len(times) - 1]
