"""Deduplication of a set of clips: by bytes, by perceptual hash, then SemDeDup; the highest resolution is kept
(arXiv 2501.03575, section 3.4)."""

from cosmos_curate.dedup.clips import DedupInput, Duplicates, Ranked
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.resolve import resolve
from cosmos_curate.dedup.rows import Rows


def find_duplicates(clips: DedupInput, config: DedupConfig | None = None) -> Duplicates:
    """Return which clips are copies and of what; the order in which they are given makes no difference.

    Embeddings may be a memory map: what is held of them at once is a cell, a sample for k-means and a few tiles.

    Raises:
        InputError: more clusters than clips.
    """
    order = clips.order()
    ranked = Ranked(
        rows=Rows([clips.embeddings], order),
        sha256=[clips.sha256[row] for row in order],
        phash=[clips.phash[row] for row in order],
        duration_s=clips.duration_s[order],
    )
    found, _ = resolve(ranked, config or DedupConfig())
    return found.named([clips.ids[row] for row in order], order)
