"""Mix of the nine groups of video: which clips to repeat or leave out to reach it (arXiv 2501.03575, section 3.1)."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Int64

from cosmos_curate.errors import InputError
from cosmos_curate.schema import VIDEO_TYPES

PAPER_TARGET: Mapping[str, float] = dict(
    zip(VIDEO_TYPES, (0.20, 0.16, 0.16, 0.11, 0.10, 0.08, 0.08, 0.04, 0.07), strict=True)
)
"""Share of each of VIDEO_TYPES in the paper's data."""
UNTYPED = "other"
"""What a clip without a type counts for."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """The mix to reach.

    Args:
        target: share of each type, in any unit; types that are not named, or have 0, are left out.
        size: clips wanted, repeats counted; as many as there are, if None. Fewer come if `most` forbids it.
        most: times that a clip may be used.
        seed: of the choice which clips are repeated or left out.
    """

    target: Mapping[str, float] = field(default_factory=lambda: dict(PAPER_TARGET))
    size: int | None = None
    most: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.target) - set(VIDEO_TYPES)):
            raise InputError(f"mix: {unknown[0]!r} is no type of video: use {', '.join(VIDEO_TYPES)}")
        shares = list(self.target.values())
        if not all(math.isfinite(share) and share >= 0 for share in shares) or not any(shares):
            raise InputError(f"mix: shares must be 0 or more and not all 0, not {shares}")
        if self.size is not None and self.size < 0:
            raise InputError(f"mix: size must be 0 or more, not {self.size}")
        if self.most < 1:
            raise InputError(f"mix: most must be 1 or more, not {self.most}")


@dataclass(frozen=True, kw_only=True, eq=False)
class MixPlan:
    """How often each clip is used, and how near that comes to the target.

    Args:
        repeats: 0 for a clip that is left out.
        report: as JSON takes it. For each type of the target its share of it, clips there are, and clips in the
            shards with repeats counted; `absent` names types without a clip, `capped` those whose clips would have
            to be used more than `most` times: what they lack went to the others by their shares.
    """

    repeats: Int64[np.ndarray, "N"]
    report: Mapping[str, Any]


def plan_repeats(ids: Sequence[str], types: Sequence[str | None], config: MixConfig) -> MixPlan:
    """Return the number of times that each clip is used, so that the types come in the target's shares.

    A type's number of clips is its share of the size, rounded by largest remainder. Within a type each clip is used
    equally often or once more than another: a hash of seed and id decides which, so that order does not matter.

    Args:
        ids: of the clips, each once.
        types: of VIDEO_TYPES; None counts as "other".

    Raises:
        InputError: ids and types differ in length, or an id comes twice.
    """
    if len(ids) != len(types):
        raise InputError(f"{len(ids)} ids and {len(types)} types: give one type for each id")
    if len(set(ids)) != len(ids):
        raise InputError("an id comes twice: plan the mix over each clip once")
    named = [UNTYPED if name is None else name for name in types]
    wanted = {name: Fraction(share).limit_denominator(10**6) for name, share in config.target.items() if share > 0}
    there = Counter(named)
    most = {name: config.most * there[name] for name in wanted}
    total = min(len(ids) if config.size is None else config.size, sum(most.values()))
    counts = share_out(wanted, most, total)
    repeats = np.zeros(len(ids), np.int64)
    given = Counter[str]()
    for place in sorted(
        range(len(ids)), key=lambda place: hashlib.sha256(f"{config.seed}:{ids[place]}".encode()).digest()
    ):
        name = named[place]
        each, more = divmod(counts.get(name, 0), there[name])
        repeats[place] = each + (given[name] < more)
        given[name] += 1
    whole = sum(wanted.values())
    report = {
        "types": {
            name: {"target": float(share / whole), "clips": there[name], "used": counts[name]}
            for name, share in wanted.items()
        },
        "absent": [name for name in wanted if not there[name]],
        "capped": [name for name in wanted if there[name] and counts[name] < math.floor(share_of(wanted, name, total))],
        "size": sum(counts.values()),
    }
    return MixPlan(repeats=repeats, report=report)


def share_of(wanted: Mapping[str, Fraction], name: str, total: int) -> Fraction:
    """Return what a name should have of the total, before rounding."""
    return total * wanted[name] / sum(wanted.values())


def share_out(wanted: Mapping[str, Fraction], most: Mapping[str, int], total: int) -> dict[str, int]:
    """Share a total out as wanted, to none more than its most; what one cannot take goes to the others.

    The total must be no more than the sum of `most`.
    """
    counts = dict.fromkeys(wanted, 0)
    free, left = dict(wanted), total
    while over := [name for name in free if share_of(free, name, left) > most[name]]:
        for name in over:
            counts[name] = most[name]
            del free[name]
        left = total - sum(counts.values())
    exact = {name: share_of(free, name, left) for name in free}
    counts |= {name: math.floor(share) for name, share in exact.items()}
    # sorted() is stable: of equal remainders the target's first wins.
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
