"""Clips nearest to an embedding: all of a run by faiss, or the cells of the index that deduplication left."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Float32

from cosmos_curate.dedup.incremental import DedupIndex
from cosmos_curate.dedup.rows import Rows
from cosmos_curate.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet

PROBED = 16
"""Cells of the index that are looked through."""
BATCH = 65536

Hits = list[tuple[str, float]]
"""Ids and cosines, nearest first; equal ones by id."""


def batches(file: "pyarrow.parquet.ParquetFile") -> Iterator[tuple[list[str], Float16[np.ndarray, "B D"]]]:
    """Yield ids and embeddings of a run's table, a batch at a time; a clip without one is left out."""
    for batch in file.iter_batches(BATCH, columns=["clip_id", "embedding"], use_threads=False):
        batch = batch.filter(batch.column("embedding").is_valid())
        if batch.num_rows:
            numbers = batch.column("embedding").flatten().to_numpy(zero_copy_only=False)
            yield batch.column("clip_id").to_pylist(), numbers.reshape(batch.num_rows, -1)


def embedding_of(file: "pyarrow.parquet.ParquetFile", clip_id: str) -> Float32[np.ndarray, "D"] | None:
    """Return the embedding of a clip at length 1; None if the table lacks it."""
    for ids, held in batches(file):
        if clip_id in ids:
            return unit(held[ids.index(clip_id)][None])[0]
    return None


def nearest_flat(file: "pyarrow.parquet.ParquetFile", query: Float32[np.ndarray, "D"], top: int) -> Hits:
    """Return the nearest clips of all; memory does not grow with the table."""
    import faiss

    best: list[tuple[float, str]] = []
    for ids, held in batches(file):
        same_width(held, query)
        flat = faiss.IndexFlatIP(held.shape[1])
        flat.add(unit(held))
        cosines, places = flat.search(query[None], min(top, len(held)))
        found = zip(cosines[0].tolist(), places[0].tolist(), strict=True)
        best = sorted(best + [(-cosine, ids[place]) for cosine, place in found])[:top]
    return [(clip_id, -cosine) for cosine, clip_id in best]


def nearest_probed(index: DedupIndex, query: Float32[np.ndarray, "D"], top: int) -> Hits:
    """Return the nearest of the kept clips in the `PROBED` cells that are nearest to the query (all, if fewer)."""
    same_width(index.embeddings, query)
    among = np.flatnonzero(index.first >= 0)
    if len(index.centroids) > PROBED:
        cells = np.argsort(-(index.centroids @ query), kind="stable")[:PROBED]
        among = np.flatnonzero(np.isin(index.first, cells))
    rows = Rows([index.embeddings], among)
    cosines = np.empty(len(among), np.float32)
    for ranks in rows.blocks():
        cosines[ranks] = rows.unit(ranks) @ query
    order = sorted(np.argsort(-cosines, kind="stable")[:top], key=lambda at: (-cosines[at], index.ids[among[at]]))
    return [(index.ids[among[at]], float(cosines[at])) for at in order]


def unit(held: Float16[np.ndarray, "B D"]) -> Float32[np.ndarray, "B D"]:
    """Return rows at length 1."""
    every = np.arange(len(held))
    return Rows([held], every).unit(every)


def same_width(held: Float16[np.ndarray, "B D"], query: Float32[np.ndarray, "E"]) -> None:
    """Refuse a query of another model."""
    if held.shape[1] != len(query):
        raise InputError(f"the run's embeddings have {held.shape[1]} numbers and the query's {len(query)}: run again")
