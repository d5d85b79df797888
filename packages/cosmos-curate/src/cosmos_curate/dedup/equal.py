"""Clips that equal another one in some way, and copies of it whatever its embedding: they leave before pairs are made,
so that a thousand copies of one file cost a thousand steps and not half a million."""

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cosmos_curate.dedup.clips import Ranked
from cosmos_curate.dedup.exact import first_equal, first_of
from cosmos_curate.dedup.rows import BLOCK


def equals(ranked: Ranked, usable: Bool[np.ndarray, "N"]) -> tuple[Int64[np.ndarray, "N"], list[str | None]]:
    """Return the clip of highest rank that each equals (itself for most), and how: "bytes", "embedding" or "hash".

    By embedding, the stored numbers are the same; by hash, those of all frames and the duration to a millisecond.
    """
    count = len(ranked.rows)
    root = np.arange(count)
    how: list[str | None] = [None] * count

    def merge(ranks: np.ndarray, firsts: np.ndarray, why: str) -> None:
        for place in np.flatnonzero((firsts < ranks) & (ranks >= ranked.held)).tolist():
            root[ranks[place]], how[ranks[place]] = firsts[place], why

    merge(root.copy(), first_equal(ranked.sha256), "bytes")

    alive = np.flatnonzero((root == np.arange(count)) & usable)
    firsts = alive[first_of(ranked.rows.digests()[alive])]
    differ = np.flatnonzero(alive != firsts)
    for start in range(0, len(differ), BLOCK):
        ranks, others = alive[differ[start : start + BLOCK]], firsts[differ[start : start + BLOCK]]
        equal = (ranked.rows.raw(ranks) == ranked.rows.raw(others)).all(1)
        merge(ranks[equal], others[equal], "embedding")

    alive = np.flatnonzero(root == np.arange(count))
    keys: list[str | None] = []
    for rank in alive.tolist():
        phash = ranked.phash[rank]
        keys.append(f"{phash} {ranked.duration_s[rank]:.3f}" if phash and phash.strip("0") else None)
    merge(alive, alive[first_equal(keys)], "hash")
    # A clip may equal one that itself equals another: at most one step for each of the three ways.
    return root[root[root]], how


def follow(
    ranked: Ranked,
    usable: Bool[np.ndarray, "N"],
    root: Int64[np.ndarray, "N"],
    keeper: Int64[np.ndarray, "N"],
    cosine: Float32[np.ndarray, "N"],
) -> None:
    """Give clips that equal another its keeper, or that other itself, and the cosine; 1 for equal bytes."""
    equal = np.flatnonzero(root != np.arange(len(root)))
    target = np.where(keeper[root[equal]] >= 0, keeper[root[equal]], root[equal])
    keeper[equal] = target
    for start in range(0, len(equal), BLOCK):
        ranks, others = equal[start : start + BLOCK], target[start : start + BLOCK]
        cosine[ranks] = np.einsum("nd,nd->n", ranked.rows.unit(ranks), ranked.rows.unit(others))
    cosine[(keeper >= 0) & ~(usable & usable[keeper])] = np.nan
    for rank, other in zip(equal.tolist(), target.tolist(), strict=True):
        if ranked.sha256[rank] is not None and ranked.sha256[rank] == ranked.sha256[other]:
            cosine[rank] = 1
