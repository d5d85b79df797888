"""Which clips stay, decided on the manifest alone: rules, duplicates, ranks and the mix, in that order.

A duplicate is marked whether or not another rule drops it, and a clip that passes the rules is never the duplicate of
one that does not. Ranks such as the lowest 15 % in quality (arXiv 2501.03575, section 3.2) are of what is left.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16

from cosmos_curate.content.mix import MixConfig, plan_repeats
from cosmos_curate.dedup.clips import DedupInput
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.find import find_duplicates
from cosmos_curate.dedup.incremental import index_of
from cosmos_curate.manifest import files, take
from cosmos_curate.rules import DEFAULT_RULES, Rule, apply

if TYPE_CHECKING:
    import pyarrow as pa

QUARANTINE, DUPLICATE, MIX = "quarantine", "duplicate", "mix"
"""What `drop_rule` says where it is no rule of the list."""


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """What decides.

    Args:
        rules: those that judge a clip by itself go before the duplicates, those that rank go behind them.
        dedup: None leaves duplicates in, but for files of equal bytes.
        mix: None takes every clip once.
    """

    rules: tuple[Rule, ...] = DEFAULT_RULES
    dedup: DedupConfig | None = field(default_factory=DedupConfig)
    mix: MixConfig | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided, and how it came about.

    Args:
        columns: of the manifest, one value a row: keep, drop_rule, drop_value, dup_of, dup_similarity, repeats.
        funnel: name of each step in turn, its test where it is a rule, and the clips and hours that it left.
        report: of deduplication and mix, for the run's report.
        index: bytes of the file of frozen centroids and cells, for search and for clips that come later; None where all
            pairs were compared.
    """

    columns: Mapping[str, Sequence[Any]]
    funnel: Sequence[Mapping[str, Any]]
    report: Mapping[str, Any]
    index: bytes | None


def decide(
    table: "pa.Table",
    embeddings: Mapping[str, Float16[np.ndarray, "D"]],
    config: SelectConfig,
) -> Decision:
    """Decide on every row of a scored manifest.

    Args:
        table: of the manifest's schema; what was decided before is not looked at.
        embeddings: by clip, of unit norm; clips without one are compared by bytes and hash.
        config: what decides.
    """
    count = len(table)
    names = {"clip_id", "duration_s", "quarantine", "video_type"} | {n for rule in config.rules for n in rule.columns}
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in sorted(names)}
    ids = columns["clip_id"]
    dropped: dict[int, tuple[str, str | None]] = {}
    funnel = _Funnel([seconds or 0.0 for seconds in columns["duration_s"]])

    def left() -> list[int]:
        return [place for place in range(count) if place not in dropped]

    dropped |= {place: (QUARANTINE, reason) for place, reason in enumerate(columns["quarantine"]) if reason}
    usable = left()
    funnel.step(QUARANTINE, left())
    for rule in (rule for rule in config.rules if not rule.ranks):
        dropped |= apply([rule], columns, left())
        funnel.step(rule.name, left(), rule.test)

    dup_of = _same_bytes(table, set(left()))
    similarity: list[float | None] = [None if original is None else 1.0 for original in dup_of]
    report: dict[str, Any] = {}
    index: bytes | None = None
    compared = [place for place in usable if dup_of[place] is None]
    if config.dedup is not None and compared:
        report["dedup"], index = _mark(table, compared, set(left()), embeddings, config.dedup, dup_of, similarity)
    dropped |= {place: (DUPLICATE, dup_of[place]) for place in left() if dup_of[place] is not None}
    funnel.step(DUPLICATE, left())
    for rule in (rule for rule in config.rules if rule.ranks):
        dropped |= apply([rule], columns, left())
        funnel.step(rule.name, left(), rule.test)

    repeats = [0] * count
    for place in left():
        repeats[place] = 1
    if config.mix is not None:
        kept = left()
        planned = plan_repeats(
            [ids[place] for place in kept], [columns["video_type"][place] for place in kept], config.mix
        )
        for place, times in zip(kept, planned.repeats.tolist(), strict=True):
            repeats[place] = times
            if times == 0:
                dropped[place] = (MIX, columns["video_type"][place])
        report["mix"] = planned.report
        funnel.step(MIX, left())
    return Decision(
        columns={
            "keep": [place not in dropped for place in range(count)],
            "drop_rule": [dropped[place][0] if place in dropped else None for place in range(count)],
            "drop_value": [dropped[place][1] if place in dropped else None for place in range(count)],
            "dup_of": dup_of,
            "dup_similarity": similarity,
            "repeats": repeats,
        },
        funnel=funnel.steps,
        report=report,
        index=index,
    )


def _mark(
    table: "pa.Table",
    compared: Sequence[int],
    passing: set[int],
    embeddings: Mapping[str, Float16[np.ndarray, "D"]],
    config: DedupConfig,
    dup_of: list[str | None],
    similarity: list[float | None],
) -> tuple[dict[str, Any], bytes | None]:
    """Fill in copies among the clips at `compared`; return what the report says of them, and the index."""
    rows = take(table, compared)
    ids: list[str] = rows["clip_id"].to_pylist()
    width = len(next(iter(embeddings.values()))) if embeddings else 1
    matrix = np.zeros((len(ids), width), np.float16)
    own = files(table)
    for row, place in enumerate(compared):
        if own[place] in embeddings:
            matrix[row] = embeddings[own[place]]

    def numbers(name: str, kind: type, missing: float | int) -> np.ndarray:
        return np.array([missing if value is None else value for value in rows[name].to_pylist()], kind)

    clips = DedupInput(
        ids=ids,
        embeddings=matrix,
        sha256=rows["sha256"].to_pylist(),
        phash=rows["phash"].to_pylist(),
        duration_s=numbers("duration_s", np.float64, 0.0),
        pixels=numbers("width", np.int64, 0) * numbers("height", np.int64, 0),
        bytes=numbers("bytes", np.int64, 0),
        quality=numbers("quality", np.float32, math.nan),
        passes=np.array([place in passing for place in compared], bool),
    )
    found = find_duplicates(clips, config)
    for place, original, cosine in zip(compared, found.dup_of, found.similarity.tolist(), strict=True):
        if original is not None:
            dup_of[place], similarity[place] = original, None if math.isnan(cosine) else cosine
    report = {
        "eps": config.eps,
        "removed": sum(original is not None for original in found.dup_of),
        "how": dict(sorted(Counter(how for how in found.how if how is not None).items())),
        "sweep": [asdict(point) for point in found.sweep],
        "missed_rate": found.missed_rate,
        "pairs_sampled": found.pairs,
        "cells": found.cells,
        "largest_cell": found.largest_cell,
    }
    return report, index_of(clips, found, config).to_bytes() if len(found.centroids) else None


def _same_bytes(table: "pa.Table", passing: set[int]) -> list[str | None]:
    """For each clip of a file that repeats another's bytes, the one that is kept: the first, of passing ones if any."""
    ids: list[str] = table["clip_id"].to_pylist()
    own = files(table)
    keepers: dict[str, str] = {}
    for place in sorted(range(len(ids)), key=lambda place: (place not in passing, place)):
        keepers.setdefault(own[place], ids[place])
    return [None if keepers[name] == identity else keepers[name] for name, identity in zip(own, ids, strict=True)]


class _Funnel:
    """How many clips and seconds each step left."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = seconds
        self._clips, self._total = len(seconds), sum(seconds)
        self.steps: list[dict[str, Any]] = [{"step": "scored", "clips": self._clips, "hours": self._total / 3600}]

    def step(self, name: str, left: Sequence[int], test: str | None = None) -> None:
        total = sum(self._seconds[place] for place in left)
        found = {"step": name, "clips": len(left), "hours": total / 3600, "dropped": self._clips - len(left)}
        self.steps.append(found if test is None else {**found, "test": test})
        self._clips, self._total = len(left), total
