"""Mix of the nine groups of video: which clips to repeat or leave out to reach it (arXiv 2501.03575, section 3.1)."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from cosmos_curate.errors import InputError
from cosmos_curate.schema import VIDEO_TYPES

PAPER_MIX: Mapping[str, float] = dict(zip(VIDEO_TYPES, (20, 16, 16, 11, 10, 8, 8, 4, 7), strict=True))
"""Percent of each of VIDEO_TYPES."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MixPlan:
    """How often each clip goes into the shards, and what the data could not give.

    Args:
        repeats: 0 for a clip that is left out.
        counts: clips of each type in the shards, repeats counted.
        absent: types of the target without one clip; their share went to the others.
        capped: types that would have had to repeat their clips more often than is allowed; so did their excess.
    """

    repeats: Int64[np.ndarray, "N"]
    counts: Mapping[str, int]
    absent: tuple[str, ...]
    capped: tuple[str, ...]


def plan_repeats(
    ids: Sequence[str],
    types: Sequence[str],
    target: Mapping[str, float] = PAPER_MIX,
    *,
    size: int | None = None,
    seed: int = 0,
    most: int = 4,
) -> MixPlan:
    """Return the number of times that each clip is used, so that the types come in the target's shares.

    What a type should have is its share of `size`, rounded by largest remainder; what it cannot give at `most` uses
    of each clip is spread over the others by their shares. Within a type each clip is used equally often or once more
    than another: which, and which are left out, is decided by a hash of seed and id, so that order does not matter.

    Args:
        ids: of the clips, each once.
        types: of the clips; a type outside the target is a mistake.
        target: share of each type, in any unit.
        size: clips wanted, repeats counted; as many as there are, if None. Fewer come if `most` forbids it.

    Raises:
        InputError: ids and types differ in length, an id comes twice, a type or number makes no sense.
    """
    check(ids, types, target, size, most)
    available = dict.fromkeys(target, 0)
    for name in types:
        available[name] += 1
    most_of = {name: most * count if target[name] > 0 else 0 for name, count in available.items()}
    total = min(len(ids) if size is None else size, sum(most_of.values()))
    counts, capped = shares(target, most_of, total)
    order = sorted(range(len(ids)), key=lambda index: hashlib.sha256(f"{seed}:{ids[index]}".encode()).digest())
    repeats = np.zeros(len(ids), np.int64)
    given = dict.fromkeys(target, 0)
    for index in order:
        name = types[index]
        each, more = divmod(counts[name], available[name])
        repeats[index] = each + (given[name] < more)
        given[name] += 1
    absent = tuple(name for name in target if target[name] > 0 and not available[name])
    return MixPlan(
        repeats=repeats, counts=counts, absent=absent, capped=tuple(name for name in capped if available[name])
    )


def check(ids: Sequence[str], types: Sequence[str], target: Mapping[str, float], size: int | None, most: int) -> None:
    """Raise InputError for arguments of `plan_repeats` that make no sense."""
    if len(ids) != len(types):
        raise InputError(f"{len(ids)} ids and {len(types)} types: give one type for each id")
    if len(set(ids)) != len(ids):
        raise InputError("an id comes twice: plan the mix over each clip once")
    if not all(math.isfinite(share) and share >= 0 for share in target.values()) or not any(target.values()):
        raise InputError(f"the target's shares must be 0 or more and not all 0, not {dict(target)}")
    if unknown := sorted(set(types) - set(target)):
        raise InputError(f"type {unknown[0]!r} is not in the target: add it, with 0 to leave it out")
    if size is not None and size < 0:
        raise InputError(f"size must be 0 or more, not {size}")
    if most < 1:
        raise InputError(f"most must be 1 or more, not {most}")


def shares(target: Mapping[str, float], most_of: Mapping[str, int], total: int) -> tuple[dict[str, int], list[str]]:
    """Share out `total` by the target, no more to a name than `most_of` has; return also the names that hit it."""
    counts = dict.fromkeys(target, 0)
    free = [name for name in target if target[name] > 0]
    capped: list[str] = []
    left = total
    while free:
        whole = sum(target[name] for name in free)
        over = [name for name in free if left * target[name] / whole > most_of[name]]
        if not over:
            break
        for name in over:
            counts[name] = most_of[name]
            left -= most_of[name]
            free.remove(name)
            capped.append(name)
    if free:
        whole = sum(target[name] for name in free)
        exact = {name: left * target[name] / whole for name in free}
        counts |= {name: math.floor(exact[name]) for name in free}
        # sorted() is stable: of equal remainders the target's first wins.
        by_remainder = sorted(free, key=lambda name: counts[name] - exact[name])
        for name in by_remainder[: left - sum(counts[name] for name in free)]:
            counts[name] += 1
    return counts, capped
