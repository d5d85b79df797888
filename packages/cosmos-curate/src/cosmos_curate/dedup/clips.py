"""What deduplication reads of the clips, what it says of them, and the order in which copies are kept."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float16, Float32, Float64, Int64

from cosmos_curate.dedup.rows import Rows
from cosmos_curate.dedup.sweep import SweepPoint
from cosmos_curate.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class DedupInput:
    """Columns of N clips, in any order.

    Args:
        ids: clip ids, all different.
        embeddings: float16, an array or a memory map, of any length but zero; a row of zeros or not finite for none.
        sha256: of each clip's file; None is equal to nothing.
        phash: of `fingerprint_stage`; None or an empty text for none.
        duration_s: seconds.
        pixels: width times height.
        bytes: of each clip's file.
        quality: higher is better; not a number for none.
        passes: clips that every rule lets pass, of which none is the copy of one that a rule drops; None for all.
    """

    ids: list[str]
    embeddings: Float16[np.ndarray, "N D"]
    sha256: list[str | None]
    phash: list[str | None]
    duration_s: Float64[np.ndarray, "N"]
    pixels: Int64[np.ndarray, "N"]
    bytes: Int64[np.ndarray, "N"]
    quality: Float32[np.ndarray, "N"]
    passes: Bool[np.ndarray, "N"] | None = None

    def __post_init__(self) -> None:
        for name in ("embeddings", "sha256", "phash", "duration_s", "pixels", "bytes", "quality", "passes"):
            if getattr(self, name) is not None and len(getattr(self, name)) != len(self.ids):
                raise InputError(f"{name} has {len(getattr(self, name))} rows for {len(self.ids)} clips; give one each")
        if len(set(self.ids)) != len(self.ids):
            raise InputError("two clips have one id; ids come from content and span, so drop the repeated rows")

    def order(self) -> Int64[np.ndarray, "N"]:
        """Return rows by rank: passing, then most pixels, bit rate, quality, id; the first of copies is kept."""
        by_id = np.empty(len(self.ids), np.int64)
        by_id[sorted(range(len(self.ids)), key=self.ids.__getitem__)] = np.arange(len(self.ids))
        drops = np.zeros(len(self.ids), bool) if self.passes is None else ~self.passes
        rate = self.bytes / np.where(self.duration_s > 0, self.duration_s, np.inf)
        quality = np.where(np.isnan(self.quality), -np.inf, self.quality)
        return np.lexsort((by_id, -quality, -rate, -self.pixels, drops))


@dataclass(frozen=True, kw_only=True, eq=False)
class Duplicates:
    """What was found about N clips, in the order they were given.

    Args:
        dup_of: id of the kept clip that each is a copy of; None for a kept one.
        similarity: cosine to it, 1 for equal bytes; not a number for a kept clip, or without embeddings.
        how: "bytes", "hash" or "embedding", whichever comes first; None for a kept clip.
        sweep: what other thresholds would remove.
        pairs: pairs of copies that a sample of the clips has by brute force.
        missed: those of them that were never compared.
        cells: groups in which all pairs were compared.
        largest_cell: clips in the largest of them.
        centroids: of the clusters; none where all pairs were compared.
    """

    dup_of: list[str | None]
    similarity: Float32[np.ndarray, "N"]
    how: list[str | None]
    sweep: tuple[SweepPoint, ...]
    pairs: int
    missed: int
    cells: int
    largest_cell: int
    centroids: Float32[np.ndarray, "K D"]

    @property
    def missed_rate(self) -> float:
        """Share of pairs of copies that were never compared, by the sample; 0 if it had none."""
        return self.missed / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Clips by rank; the first `held` are kept already, and not compared with one another."""

    rows: Rows
    sha256: list[str | None]
    phash: list[str | None]
    duration_s: Float64[np.ndarray, "N"]
    held: int = 0
