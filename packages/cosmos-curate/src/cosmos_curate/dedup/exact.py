"""Copies that need no embedding: equal keys, and perceptual hashes that differ in a few bits of each frame.

Hashes within r bits are found by multi-index hashing: of a frame's r + 1 parts, at least one is equal in both. Two
frames of a clip are asked at once, a table for each pair of parts, so that a bucket holds few strangers.
"""

import numpy as np
from jaxtyping import Float64, Int64, UInt64

from cosmos_curate.dedup.fingerprint import words

WINDOW = 64
"""Neighbours in a bucket, ordered by duration, that a clip is compared with: a bound for scenes that never change,
whose clips fill one bucket; embeddings find the others."""


def first_of(keys: np.ndarray) -> Int64[np.ndarray, "N"]:
    """Return for each row the smallest row with an equal key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)]


def first_equal(values: list[str | None]) -> Int64[np.ndarray, "N"]:
    """Return for each row the smallest row with an equal value; None equals nothing."""
    seen: dict[str, int] = {}
    return np.array([row if value is None else seen.setdefault(value, row) for row, value in enumerate(values)], int)


def hash_pairs(
    phashes: list[str | None], duration_s: Float64[np.ndarray, "N"], radius: int
) -> Int64[np.ndarray, "P 2"]:
    """Return pairs of rows, the smaller first, that are copies by hash, each once.

    They have as many frames, each frame's hash differs in `radius` bits at most, and their durations differ by 2 % or
    a tenth of a second at most. A clip without contrast in any frame is in no pair.
    """
    by_frames: dict[int, list[int]] = {}
    for row, phash in enumerate(phashes):
        if phash and phash.strip("0"):
            by_frames.setdefault(len(phash), []).append(row)
    found = [np.empty((0, 2), np.int64)]
    for group in by_frames.values():
        rows = np.array(group, np.int64)
        hashes = np.stack([words(phashes[row] or "") for row in group])
        found.append(rows[pairs_of(hashes, duration_s[rows], radius)])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def pairs_of(
    hashes: UInt64[np.ndarray, "N F"], duration_s: Float64[np.ndarray, "N"], radius: int
) -> Int64[np.ndarray, "P 2"]:
    """Return the pairs among clips of F frames."""
    # Blank frames last: a fade from black is no address.
    order = np.argsort(hashes == 0, axis=1, kind="stable")[:, :2]
    address = np.take_along_axis(hashes, order, axis=1)
    tables = [parts(column, radius + 1) for column in address.T]
    if len(tables) == 1:
        tables.append([np.zeros(len(hashes), np.uint64)])
    found = [np.empty((0, 2), np.int64)]
    for one in tables[0]:
        for two in tables[1]:
            found.append(neighbours(one << np.uint64(32) | two, hashes, duration_s, radius))
    return np.concatenate(found)


def parts(column: UInt64[np.ndarray, "N"], count: int) -> list[UInt64[np.ndarray, "N"]]:
    """Return 64 bits in `count` parts, each made to fit 32 bits without loss or, for one or two parts, by mixing."""
    edges = np.linspace(0, 64, count + 1).astype(int)
    out = []
    for first, end in zip(edges[:-1], edges[1:], strict=True):
        part = column >> np.uint64(first) & np.uint64(2 ** int(end - first) - 1)
        out.append(part if end - first <= 32 else (part * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32))
    return out


def neighbours(
    keys: UInt64[np.ndarray, "N"], hashes: UInt64[np.ndarray, "N F"], duration_s: Float64[np.ndarray, "N"], radius: int
) -> Int64[np.ndarray, "P 2"]:
    """Return the pairs of one table."""
    order = np.lexsort((duration_s, keys))
    keys, hashes, duration_s = keys[order], hashes[order], duration_s[order]
    reach = np.maximum(0.1, 0.02 * duration_s)
    found = [np.empty((0, 2), np.int64)]
    candidates = np.arange(len(keys) - 1)
    for step in range(1, WINDOW + 1):
        candidates = candidates[candidates + step < len(keys)]
        beside = candidates + step
        near = (keys[candidates] == keys[beside]) & (duration_s[beside] - duration_s[candidates] <= reach[candidates])
        candidates = candidates[near]
        if not len(candidates):
            break
        beside = candidates + step
        alike = (bits(hashes[candidates] ^ hashes[beside]) <= radius).all(1)
        found.append(np.stack([order[candidates[alike]], order[beside[alike]]], axis=1))
    return np.concatenate(found)


def bits(words: UInt64[np.ndarray, "P F"]) -> Int64[np.ndarray, "P F"]:
    """Return how many bits are set in each word."""
    octets = np.ascontiguousarray(words)[..., None].view(np.uint8)
    return np.unpackbits(octets, axis=-1).sum(-1, dtype=np.int64)
