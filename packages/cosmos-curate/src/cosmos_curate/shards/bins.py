"""Bins of clips by resolution, aspect and length, open at both ends: each clip has one (arXiv 2501.03575, section 3.6).

The paper names the three axes; the edges by short side and by aspect are those of the reference curator. Its shortest
clips, of 2 to 5 seconds, have a bin here too.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from cosmos_curate.errors import InputError

ASPECTS = ((9, 16), (3, 4), (1, 1), (4, 3), (16, 9))
"""Width to height."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Edges of the bins; a value on an edge belongs above it.

    Args:
        short_sides: pixels of the shorter side.
        aspects: width and height of each bin's proportion; a clip goes to the nearest by ratio.
        durations_s: seconds.

    Raises:
        InputError: edges that do not rise, or are not positive.
    """

    short_sides: tuple[int, ...] = (720, 1080)
    aspects: tuple[tuple[int, int], ...] = ASPECTS
    durations_s: tuple[float, ...] = (5.0, 10.0, 30.0)

    def __post_init__(self) -> None:
        ratios = tuple(w / h if w > 0 and h > 0 else 0.0 for w, h in self.aspects)
        for name, edges in (("short_sides", self.short_sides), ("durations_s", self.durations_s), ("aspects", ratios)):
            if any(edge <= 0 for edge in edges) or any(a >= b for a, b in zip(edges, edges[1:], strict=False)):
                raise InputError(f"bins: {name} {getattr(self, name)} must be positive and rise")
        if not self.aspects:
            raise InputError("bins: aspects is empty; name one at least, such as (16, 9)")

    def folder(self, *, width: int, height: int, duration_s: float) -> str:
        """Return the folder of a clip's shards: `resolution_720/aspect_ratio_16_9/duration_5_10`."""
        w, h = min(self.aspects, key=lambda aspect: abs(log(width / height) - log(aspect[0] / aspect[1])))
        short = _named(min(width, height), self.short_sides)
        return f"resolution_{short}/aspect_ratio_{w}_{h}/duration_{_named(duration_s, self.durations_s)}"


def _named(value: float | int, edges: Sequence[float | int]) -> str:
    if not edges:
        return "any"
    place = bisect_right(edges, value)
    if place == 0:
        return f"lt_{edges[0]:g}"
    return f"ge_{edges[-1]:g}" if place == len(edges) else f"{edges[place - 1]:g}_{edges[place]:g}"
