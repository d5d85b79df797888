"""All steps over ranked clips: equal ones, hashes, cells, the pass of maxima, and the greedy choice."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64

from cosmos_curate.dedup.cells import Assignment, assign, members, split, train
from cosmos_curate.dedup.clips import Duplicates, Ranked
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.equal import equals, follow
from cosmos_curate.dedup.exact import hash_pairs
from cosmos_curate.dedup.greedy import choose
from cosmos_curate.dedup.missed import missed_pairs
from cosmos_curate.dedup.rows import Rows
from cosmos_curate.dedup.semantic import nearest_above
from cosmos_curate.dedup.sweep import sweep


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Copies among ranked clips.

    Args:
        keeper: rank of the kept clip that each is a copy of, -1 for a kept one.
        cosine: to it.
        how: as in `Duplicates`.
        report: `Duplicates` without rows.
    """

    keeper: Int64[np.ndarray, "N"]
    cosine: Float32[np.ndarray, "N"]
    how: list[str | None]
    report: Duplicates

    def named(self, ids: list[str], order: Int64[np.ndarray, "M"]) -> Duplicates:
        """Return the clips that were not held, with ids, in the order they were given.

        Args:
            ids: of all ranks.
            order: for each rank behind the held ones, the row of it as given.
        """
        held = len(ids) - len(order)
        dup_of: list[str | None] = [None] * len(order)
        how: list[str | None] = [None] * len(order)
        for rank, row in enumerate(order.tolist(), held):
            dup_of[row] = None if self.keeper[rank] < 0 else ids[self.keeper[rank]]
            how[row] = self.how[rank]
        similarity = np.empty(len(order), np.float32)
        similarity[order] = self.cosine[held:]
        return replace(self.report, dup_of=dup_of, similarity=similarity, how=how)


def resolve(
    ranked: Ranked,
    config: DedupConfig,
    centroids: Float32[np.ndarray, "K D"] | None = None,
    held: Assignment | None = None,
) -> tuple[Found, Assignment]:
    """Find copies among ranked clips; return the cells of all of them too.

    Args:
        centroids: frozen ones, or None to make them.
        held: cells of the clips that are held.
    """
    rows, count = ranked.rows, len(ranked.rows)
    every = np.arange(count)
    new = every >= ranked.held
    usable = rows.usable()
    root, how = equals(ranked, usable)
    alive = root == every
    phash = [value if keep else None for value, keep in zip(ranked.phash, alive.tolist(), strict=True)]
    edges = hash_pairs(phash, ranked.duration_s, config.radius)
    edges = edges[new[edges[:, 1]]]

    part = np.flatnonzero(alive & usable)
    if centroids is None:
        centroids = choose_centroids(rows, part, config)
    first, second = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    if held is not None:
        first[: ranked.held], second[: ranked.held] = held.first, held.second
        part = part[part >= ranked.held]
    mine = assign(rows, part, centroids, config)
    first[part], second[part] = mine.first, mine.second
    assignment = Assignment(first, second)
    cells = split(rows, members(assignment, every), config)

    above, other = nearest_above(rows, cells, config, queries=new)
    keeper, cosine = choose(rows, cells, above, other, edges, config)
    for rank in np.flatnonzero(keeper >= 0).tolist():
        how[rank] = "embedding"
    for rank in edges[keeper[edges[:, 1]] == edges[:, 0], 1].tolist():
        how[rank] = "hash"
    follow(ranked, usable, root, keeper, cosine)

    linked = np.zeros(count, bool)
    linked[edges[:, 1]] = True
    exact = int((~alive | linked).sum())
    takes_part = first >= 0
    pairs, missed = missed_pairs(rows, cells, takes_part, config) if len(cells) > 1 else (0, 0)
    report = Duplicates(
        dup_of=[],
        similarity=np.empty(0, np.float32),
        how=[],
        sweep=sweep(above[alive & new & ~linked], exact, int(new.sum()), config.sweep),
        pairs=pairs,
        missed=missed,
        cells=len(cells),
        largest_cell=max((len(cell) for cell in cells), default=0),
        centroids=centroids,
    )
    return Found(keeper=keeper, cosine=cosine, how=how, report=report), assignment


def choose_centroids(rows: Rows, part: Int64[np.ndarray, "M"], config: DedupConfig) -> Float32[np.ndarray, "K D"]:
    """Return new centroids, or none where all pairs are to be compared."""
    clusters = round(math.sqrt(len(part))) if config.clusters == "auto" else config.clusters
    if len(part) <= config.exact_below or clusters == 1:
        return np.empty((0, rows.parts[0].shape[1]), np.float32)
    return train(rows, part, clusters, config)
