"""The command `search`: clips near a clip, or clips whose written words match."""

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from cosmos_curate.errors import InputError, Unusable

if TYPE_CHECKING:
    from cosmos_curate.engine.storage import Store

SHOWN = ("source", "start_s", "end_s", "keep", "dup_of", "shard", "key", "caption", "tags", "text")
"""Columns of the manifest that a result has beside its id and score."""
BY_TEXT = (
    "words found in captions, tags and text read from the picture (BM25): "
    "not what the picture shows, as no CLIP is installed"
)


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `search`."""
    parser.add_argument("out", metavar="OUT", help="output of a finished run")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--clip", metavar="CLIP", help="clips that look like this one: its id, or any video file")
    query.add_argument(
        "--text", metavar="WORDS", help="clips with these words in captions, tags or text in the picture"
    )
    parser.add_argument("--top", type=int, default=10, metavar="N", help="how many (default 10)")


def run_search(args: argparse.Namespace) -> dict[str, Any]:
    """Search and return what was found, best first.

    Raises:
        InputError: no finished run there, an unknown clip, a file that is no video, or words without a letter.
    """
    from cosmos_curate.engine.storage import Store
    from cosmos_curate.manifest import read_manifest

    if args.top < 1:
        raise InputError(f"--top {args.top} must be 1 or more")
    store = Store(args.out)
    rows = read_manifest(store).to_pylist()
    found = by_clip(store, rows, args.clip, args.top) if args.text is None else by_text(rows, args.text, args.top)
    print(f"{found['by']}: {found['note']}")
    if not found["results"]:
        print("nothing was found")
    for hit in found["results"]:
        print(f"{hit['score']:8.4f}  {hit['clip_id']}  {hit['source']}  {hit['start_s']:.2f}-{hit['end_s']:.2f} s")
    return found


def by_text(rows: list[dict[str, Any]], text: str, top: int) -> dict[str, Any]:
    """Return clips by their words."""
    from cosmos_curate.search.words import match, words

    if not words(text):
        raise InputError(f"--text {text!r} has no word; give letters or digits")
    matches = match(rows, text, top)
    results = [result(rows[each.row], each.score) | {"matched": each.fields} for each in matches]
    return {"by": "text match", "note": BY_TEXT, "query": text, "searched": len(rows), "results": results}


def by_clip(store: "Store", rows: list[dict[str, Any]], clip: str, top: int) -> dict[str, Any]:
    """Return clips by their embedding."""
    import pyarrow.parquet as pq

    from cosmos_curate.dedup.incremental import FILE, load_index
    from cosmos_curate.manifest import EMBEDDINGS
    from cosmos_curate.search.nearest import embedding_of, nearest_flat, nearest_probed

    by_id = {row["clip_id"]: row for row in rows}
    if not store.exists(EMBEDDINGS):
        raise InputError(f"{store.url}: holds no {EMBEDDINGS}; run again with embeddings")
    table = pq.ParquetFile(store.path(EMBEDDINGS) if store.is_local else io.BytesIO(store.read_bytes(EMBEDDINGS)))
    if clip in by_id:
        query = embedding_of(table, clip)
        if query is None:
            raise InputError(f"clip {clip} has no embedding: {by_id[clip]['quarantine'] or 'it was not scored'}")
    elif Path(clip).is_file():
        query = embed(Path(clip))
    else:
        raise InputError(f"--clip {clip} is neither a clip of the manifest nor a file")

    index = None
    if store.exists(FILE):
        index = load_index(Path(store.path(FILE)) if store.is_local else store.read_bytes(FILE))
    # One more than asked, for the clip itself. An index of another manifest would name clips that are gone.
    if index is not None and len(index.centroids) and by_id.keys() >= set(index.ids):
        hits, note = nearest_probed(index, query, top + 1), "kept clips of the nearest cells of the index"
        searched = len(index.ids)
    else:
        hits, note, searched = nearest_flat(table, query, top + 1), "all clips", table.metadata.num_rows
    copies: dict[str, list[str]] = {}
    for row in rows:
        if row["dup_of"] is not None:
            copies.setdefault(row["dup_of"], []).append(row["clip_id"])
    results = [
        result(by_id[clip_id], cosine) | {"copies": sorted(copies.get(clip_id, []))}
        for clip_id, cosine in hits
        if clip_id != clip and clip_id in by_id
    ]
    return {"by": "embedding", "note": note, "query": clip, "searched": searched, "results": results[:top]}


def result(row: dict[str, Any], score: float) -> dict[str, Any]:
    """Return what is said of one clip."""
    return {"clip_id": row["clip_id"], "score": round(score, 6)} | {name: row[name] for name in SHOWN}


def embed(path: Path) -> Float32[np.ndarray, "D"]:
    """Return the embedding of a video file, as the run embeds clips, at length 1."""
    from cosmos_curate.content.stage import ContentConfig, content_stage
    from cosmos_curate.media.reading import read_samplings
    from cosmos_curate.search.nearest import unit
    from cosmos_curate.stage import Item

    stage = content_stage(ContentConfig())
    try:
        frames = read_samplings(path, stage.samplings)
        columns = stage.open()(Item(id=str(path), path=str(path)), frames)
    except Unusable as error:
        raise InputError(f"--clip {path}: {error}") from None
    return unit(np.asarray(columns["embedding"])[None])[0]
