"""Embeddings by rank: rows of arrays or memory maps, gathered a few at a time as unit vectors in float32."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int64

BLOCK = 16384


class Rows:
    """Embeddings of clips in order of rank: row 0 is the one to keep before all others.

    Args:
        parts: float16 arrays or memory maps, one behind another; they are never held in memory as a whole.
        order: for each rank the row among all parts.
    """

    def __init__(self, parts: list[Float16[np.ndarray, "_ D"]], order: Int64[np.ndarray, "N"]) -> None:
        self.parts = parts
        self.order = order
        self.starts = np.cumsum([0] + [len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.order)

    def raw(self, ranks: Int64[np.ndarray, "B"]) -> Float16[np.ndarray, "B D"]:
        """Return the rows of these ranks as they are stored."""
        rows = self.order[ranks]
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][rows])
        out = np.empty((len(rows), self.parts[0].shape[1]), np.float16)
        of = np.searchsorted(self.starts, rows, side="right") - 1
        for index, part in enumerate(self.parts):
            mine = of == index
            out[mine] = part[rows[mine] - self.starts[index]]
        return out

    def unit(self, ranks: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B D"]:
        """Return the rows of these ranks at length 1; one that is zero or not finite comes back as zeros."""
        rows = self.raw(ranks).astype(np.float32)
        length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        fine = np.isfinite(length) & (length > 0)
        rows[~fine] = 0
        rows /= np.where(fine, length, 1)[:, None]
        return rows

    def blocks(self) -> Iterator[Int64[np.ndarray, "B"]]:
        """Yield all ranks, a block at a time."""
        for start in range(0, len(self), BLOCK):
            yield np.arange(start, min(start + BLOCK, len(self)))

    def usable(self) -> Bool[np.ndarray, "N"]:
        """Return which rows are finite and not zero: the others are no copies by embedding."""
        out = np.zeros(len(self), bool)
        for ranks in self.blocks():
            rows = self.raw(ranks)
            out[ranks] = np.isfinite(rows).all(1) & (rows != 0).any(1)
        return out

    def digests(self) -> np.ndarray:
        """Return 64 bits of each row's stored bytes: equal rows, equal digests."""
        dimensions = self.parts[0].shape[1]
        factors = np.random.default_rng(0).integers(2**63, size=dimensions, dtype=np.uint64) * np.uint64(2) + np.uint64(
            1
        )
        out = np.empty(len(self), np.uint64)
        for ranks in self.blocks():
            bits = self.raw(ranks).view(np.uint16).astype(np.uint64) + np.uint64(1)
            mixed = (bits * factors) ^ ((bits * factors) >> np.uint64(29))
            out[ranks] = (mixed * factors[::-1]).sum(1, dtype=np.uint64)
        return out
