"""Which copy is kept: rows in order of rank, each one dropped if it is near a kept one and else kept.

SemDeDup drops a row that is near any row before it, dropped ones too, so a chain of small steps collapses onto its
first; here A ~ B ~ C keeps A and C unless C is near A itself. Most rows are settled by one pass of maxima: without
anything near and above they stay, and if the nearest above stays they go. Only the links of chains are looked at again.
"""

import numpy as np
from jaxtyping import Float32, Int64

from cosmos_curate.dedup.cells import Cells
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.products import best
from cosmos_curate.dedup.rows import Rows
from cosmos_curate.dedup.semantic import nearest_above, update

BLOCK = 1024


def choose(
    rows: Rows,
    cells: Cells,
    found: Float32[np.ndarray, "N"],
    other: Int64[np.ndarray, "N"],
    edges: Int64[np.ndarray, "E 2"],
    config: DedupConfig,
) -> tuple[Int64[np.ndarray, "N"], Float32[np.ndarray, "N"]]:
    """Return for each row the rank of the kept row that it is a copy of, -1 for a kept row, and their cosine.

    A row's copy is the most similar kept one of higher rank, by the cells at a cosine of 1 - eps or more, or else the
    one of highest rank that an edge leads to.

    Args:
        found: of `nearest_above` over all rows.
        other: of `nearest_above` over all rows.
        edges: pairs known to be copies by other means, higher rank first.
    """
    least = np.float32(1 - config.eps)
    near = found >= least
    linked = np.zeros(len(rows), bool)
    linked[edges[:, 1]] = True
    kept = ~near & ~linked
    keeper, cosine = np.full(len(rows), -1, np.int64), np.full(len(rows), np.nan, np.float32)
    settled = near & kept[other]
    keeper[settled], cosine[settled] = other[settled], found[settled]
    open_rows = ~kept & ~settled
    if not open_rows.any():
        return keeper, cosine
    value, rank = nearest_above(rows, cells, config, queries=open_rows, keys=kept)
    value, rank = settle(rows, np.flatnonzero(open_rows), kept, value, rank, edges, config)
    gone = open_rows & ~kept
    by_edge = gone & (value < least)
    keeper[gone], cosine[gone] = rank[gone], value[gone]
    for higher, lower in sorted(map(tuple, edges[by_edge[edges[:, 1]] & kept[edges[:, 0]]].tolist()), reverse=True):
        keeper[lower] = higher
    for lower in np.flatnonzero(by_edge):
        pair = rows.unit(np.array([keeper[lower], lower]))
        cosine[lower] = pair[0] @ pair[1]
    return keeper, cosine


def settle(
    rows: Rows,
    open_ranks: Int64[np.ndarray, "M"],
    kept: np.ndarray,
    value: Float32[np.ndarray, "N"],
    rank: Int64[np.ndarray, "N"],
    edges: Int64[np.ndarray, "E 2"],
    config: DedupConfig,
) -> tuple[Float32[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """Go through the open rows in order, a block at a time, and mark in `kept` those that stay.

    Returns the nearest kept row above each, those that were open included.
    """
    least, device = np.float32(1 - config.eps), config.resolved_device()
    above: dict[int, list[int]] = {}
    for higher, lower in edges.tolist():
        above.setdefault(lower, []).append(higher)
    new: list[np.ndarray] = []
    for start in range(0, len(open_ranks), BLOCK):
        ranks = open_ranks[start : start + BLOCK]
        vectors = rows.unit(ranks)
        for earlier in new:
            update(value, rank, ranks, *best(vectors, rows.unit(earlier), ranks, earlier, device=device))
        cosines = vectors @ vectors.T
        stays: list[int] = []
        for place, this in enumerate(ranks.tolist()):
            if stays:
                nearest = stays[int(cosines[place, stays].argmax())]
                if cosines[place, nearest] > value[this]:
                    value[this], rank[this] = cosines[place, nearest], ranks[nearest]
            if value[this] < least and not any(kept[other] for other in above.get(this, ())):
                kept[this] = True
                stays.append(place)
        if stays:
            new.append(ranks[stays])
    return value, rank
