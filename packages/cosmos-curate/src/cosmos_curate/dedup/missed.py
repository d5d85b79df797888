"""Pairs of copies that no cell holds: a sample of rows against all others, by brute force."""

import numpy as np
from jaxtyping import Bool, Int64

from cosmos_curate.dedup.cells import Cells
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.rows import Rows


def missed_pairs(rows: Rows, cells: Cells, taking_part: Bool[np.ndarray, "N"], config: DedupConfig) -> tuple[int, int]:
    """Return how many pairs of copies a sample of rows has with all others, and how many of them share no cell."""
    some = np.flatnonzero(taking_part)
    drawn = np.random.default_rng(config.seed).permutation(len(some))[: config.sample]
    sample = np.sort(some[drawn])
    if not len(sample):
        return 0, 0
    vectors = rows.unit(sample)
    shared = together(sample, cells)
    pairs = missed = 0
    for ranks in rows.blocks():
        ranks = ranks[taking_part[ranks]]
        if not len(ranks):
            continue
        hits = np.argwhere(vectors @ rows.unit(ranks).T >= np.float32(1 - config.eps))
        for place, column in hits.tolist():
            other = int(ranks[column])
            # A pair within the sample is seen from both ends, and counted from the lower one.
            if other == sample[place] or (other < sample[place] and other in shared):
                continue
            pairs += 1
            missed += not any(holds(cell, other) for cell in shared[int(sample[place])])
    return pairs, missed


def together(sample: Int64[np.ndarray, "S"], cells: Cells) -> dict[int, Cells]:
    """Return the cells of each row of the sample."""
    out: dict[int, Cells] = {int(rank): [] for rank in sample}
    for cell in cells:
        for rank in sample[np.isin(sample, cell, assume_unique=True)].tolist():
            out[rank].append(cell)
    return out


def holds(cell: Int64[np.ndarray, "_"], rank: int) -> bool:
    """Whether the cell, sorted, has this row."""
    place = int(np.searchsorted(cell, rank))
    return place < len(cell) and int(cell[place]) == rank
