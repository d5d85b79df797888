"""The protocol of arXiv 2501.03575's comparison (NVlabs/ShotBench), after that of the RAI set.

A transition is the last frame before it and the first after it. Both it and a finding are widened by half a frame on
either side, and they are a hit where they then overlap: a hard cut may be found two frames early or late. Both lists
are gone through in order, each entry is used once, and counts are summed over all videos of a set before precision,
recall and F1 are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cosmos_curate.shots.shot import Shot

PROTOCOL = "one-to-one in order, intervals widened by half a frame either side (2 frames' tolerance), counts summed"
_WIDER = 0.5


class Transition(NamedTuple):
    """The last frame before a transition and the first after it: neighbours for a hard cut."""

    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """Counts over one or more videos."""

    hits: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(hits=self.hits + other.hits, false=self.false + other.false, missed=self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Share of the findings that are hits; 0 for none found."""
        return self.hits / max(1, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of the transitions that were hit; 0 for none to hit."""
        return self.hits / max(1, self.hits + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.hits / max(1, 2 * self.hits + self.false + self.missed)

    def as_dict(self) -> dict[str, float | int]:
        """Return counts and shares, the latter to four digits."""
        shares = {"f1": self.f1, "precision": self.precision, "recall": self.recall}
        counts = {"hits": self.hits, "false": self.false, "missed": self.missed}
        return {name: round(value, 4) for name, value in shares.items()} | counts


def findings(shots: Sequence[Shot]) -> list[Transition]:
    """Return the transitions between a detector's shots, as the comparison reads them.

    Of shots that touch, the cut is the first frame of the later one alone; where frames lie between two shots, the
    first of them counts as the last frame before the transition: networks mark that frame.
    """
    return [Transition(one.end, other.first) for one, other in zip(shots[:-1], shots[1:], strict=True)]


def score(truth: Sequence[Transition], found: Sequence[Transition]) -> Score:
    """Match findings to transitions, both in order."""
    hits, at = 0, 0
    for wanted in truth:
        while at < len(found) and found[at].after + _WIDER < wanted.before - _WIDER:
            at += 1
        if at < len(found) and found[at].before - _WIDER <= wanted.after + _WIDER:
            hits, at = hits + 1, at + 1
    return Score(hits=hits, false=len(found) - hits, missed=len(truth) - hits)
