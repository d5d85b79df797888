"""SemDeDup (arXiv 2303.09540, section 3): the largest cosine of each row to rows of higher rank in its cells.

Of the triangle of all pairs of a cell only one tile is in memory at a time, reduced to a maximum for each row.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cosmos_curate.dedup.cells import Cells
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.products import best
from cosmos_curate.dedup.rows import Rows


def nearest_above(
    rows: Rows,
    cells: Cells,
    config: DedupConfig,
    *,
    queries: Bool[np.ndarray, "N"] | None = None,
    keys: Bool[np.ndarray, "N"] | None = None,
) -> tuple[Float32[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """Return the largest cosine of each row to one of higher rank that shares a cell with it, and that one's rank.

    A row without any has -2 and -1; of equal cosines the highest rank wins.

    Args:
        queries: rows to look for; all by default.
        keys: rows to look among; all by default.
    """
    device = config.resolved_device()
    found, other = np.full(len(rows), -2, np.float32), np.full(len(rows), -1, np.int64)
    for cell in cells:
        asked = cell if queries is None else cell[queries[cell]]
        among = cell if keys is None else cell[keys[cell]]
        if not len(asked) or not len(among) or among[0] >= asked[-1]:
            continue
        take_asked = gather(rows, asked, config)
        take_among = take_asked if among is asked else gather(rows, among, config)
        for start in range(0, len(asked), config.tile):
            these = slice(start, start + config.tile)
            ranks = asked[these]
            vectors = take_asked(these)
            last = int(np.searchsorted(among, ranks[-1]))
            for first in range(0, last, config.tile):
                those = slice(first, min(first + config.tile, last))
                value, rank = best(vectors, take_among(those), ranks, among[those], device=device)
                update(found, other, ranks, value, rank)
    return found, other


def update(
    found: Float32[np.ndarray, "N"],
    other: Int64[np.ndarray, "N"],
    ranks: Int64[np.ndarray, "B"],
    value: Float32[np.ndarray, "B"],
    rank: Int64[np.ndarray, "B"],
) -> None:
    """Put larger cosines, or equal ones of higher rank, in the place of what was found for these rows."""
    better = (value > found[ranks]) | ((value == found[ranks]) & (rank < other[ranks]) & (rank >= 0))
    found[ranks[better]] = value[better]
    other[ranks[better]] = rank[better]


def gather(
    rows: Rows, ranks: Int64[np.ndarray, "M"], config: DedupConfig
) -> Callable[[slice], Float32[np.ndarray, "B D"]]:
    """Return the function that gives a slice of these rows: from memory, or for a large cell read each time."""
    if len(ranks) <= max(config.most_rows, config.tile):
        return rows.unit(ranks).__getitem__
    return lambda part: rows.unit(ranks[part])
