"""Which rows are compared: those that share a cell, that of the nearest centroid; near a border a row lies in two.

SemDeDup compares inside a cluster only. Two copies on either side of a border would be missed; their distance is at
most r = sqrt(2 eps), so both lie within r of the plane between the two centroids, and a row that does is put into
its second-nearest cell too. What is still missed lies near three cells, and is measured (`missed.py`).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.kmeans import fit, nearest_two
from cosmos_curate.dedup.rows import BLOCK, Rows

Cells = list[Int64[np.ndarray, "_"]]
"""Ranks of the rows of each cell, rising."""


@dataclass(frozen=True, eq=False)
class Assignment:
    """The cells of each row.

    Args:
        first: index of the nearest centroid; -1 for a row that takes no part.
        second: index of the second-nearest, or -1 for a row far from the border.
    """

    first: Int32[np.ndarray, "N"]
    second: Int32[np.ndarray, "N"]


def train(rows: Rows, ranks: Int64[np.ndarray, "N"], clusters: int, config: DedupConfig) -> Float32[np.ndarray, "K D"]:
    """Return centroids from a sample of these rows, drawn with the seed."""
    wanted = min(len(ranks), clusters * config.train_rows)
    drawn = np.sort(np.random.default_rng(config.seed).choice(len(ranks), wanted, replace=False))
    sample = np.concatenate([rows.unit(ranks[part]) for part in np.array_split(drawn, -(-wanted // BLOCK))])
    return fit(sample, clusters, iterations=config.iterations, seed=config.seed, device=config.resolved_device())


def assign(
    rows: Rows, ranks: Int64[np.ndarray, "M"], centroids: Float32[np.ndarray, "K D"], config: DedupConfig
) -> Assignment:
    """Return the cells of these rows, in their order."""
    first, second = np.zeros(len(ranks), np.int32), np.full(len(ranks), -1, np.int32)
    if len(centroids) < 2:
        return Assignment(first, second)
    reach = math.sqrt(2 * config.eps)
    device = config.resolved_device()
    size = max(256, min(BLOCK, 2**25 // len(centroids)))
    for start in range(0, len(ranks), size):
        part = slice(start, start + size)
        nearest, cosines = nearest_two(rows.unit(ranks[part]), centroids, device=device)
        apart = np.linalg.norm(centroids[nearest[:, 0]] - centroids[nearest[:, 1]], axis=1)
        # Distance to the plane between unit centroids a and b: (x.a - x.b) / |a - b|.
        near = cosines[:, 0] - cosines[:, 1] <= reach * apart
        first[part] = nearest[:, 0]
        second[part] = np.where(near, nearest[:, 1], -1)
    return Assignment(first, second)


def members(assignment: Assignment, ranks: Int64[np.ndarray, "M"]) -> Cells:
    """Return the rows of each cell that has any; `ranks`, rising, names the rows of the assignment."""
    cell = np.concatenate([assignment.first, assignment.second])
    rank = np.concatenate([ranks, ranks])
    kept = cell >= 0
    cell, rank = cell[kept], rank[kept]
    order = np.lexsort((rank, cell))
    cell, rank = cell[order], rank[order]
    return [part for part in np.split(rank, np.flatnonzero(np.diff(cell)) + 1) if len(part)]


def split(rows: Rows, cells: Cells, config: DedupConfig) -> Cells:
    """Return the cells, those of more than `config.most_rows` rows clustered again until none is, or will not part."""
    out: Cells = []
    pending = list(reversed(cells))
    while pending:
        cell = pending.pop()
        if len(cell) <= config.most_rows:
            out.append(cell)
            continue
        clusters = -(-2 * len(cell) // config.most_rows)
        centroids = train(rows, cell, min(clusters, len(cell)), config)
        parts = members(assign(rows, cell, centroids, config), cell)
        # Rows so alike that every border runs through them cannot be parted; tiles bound the memory they take.
        if max(len(part) for part in parts) > 0.9 * len(cell):
            out.append(cell)
        else:
            pending.extend(reversed(parts))
    return out
