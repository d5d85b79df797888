"""From scored clips to what users read: decisions, captions of what stays, shards, embeddings, manifest, in that order.

`run` and `select` share it. The manifest comes last: what it lists is there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16

from cosmos_curate.clips.cut import clip_name
from cosmos_curate.dedup.incremental import FILE as INDEX
from cosmos_curate.manifest import (
    EMBEDDINGS,
    files,
    from_parquet,
    take,
    to_parquet,
    to_table,
    with_columns,
    write_lance,
    write_manifest,
)
from cosmos_curate.schema import COLUMNS
from cosmos_curate.selection import QUARANTINE, SelectConfig, decide
from cosmos_curate.shards.plan import ShardConfig
from cosmos_curate.shards.write import FILE, write_shards
from cosmos_curate.stage import Item
from cosmos_curate.text_embeddings.t5 import TextEmbeddingConfig, open_text_encoder

if TYPE_CHECKING:
    import pyarrow as pa

    from cosmos_curate.engine.storage import Store

Embeddings = Mapping[str, Float16[np.ndarray, "D"]]
Caption = Callable[[Sequence[Item]], Iterable[Item]]
PAGE = "index.html"
"""What `stats` makes of a manifest, and of that one alone."""
CAPTIONED = ("caption", "caption_source", "windows")


def collect(rows: Iterable[Mapping[str, Any]]) -> tuple["pa.Table", dict[str, Float16[np.ndarray, "D"]]]:
    """Return scored rows as a table of the manifest's schema, and their embeddings by clip."""
    embeddings: dict[str, np.ndarray] = {}

    def plain() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            if row.get("embedding") is not None:
                embeddings[row["clip_id"]] = row["embedding"]
            yield row

    table = to_table(plain())
    return table, embeddings


def finish(
    store: "Store",
    table: "pa.Table",
    embeddings: Embeddings,
    *,
    select: SelectConfig,
    shards: ShardConfig,
    text_embedding: TextEmbeddingConfig,
    caption: Caption,
    models: Mapping[str, str],
    work: str,
    say: Callable[[str], None],
    lance: bool = False,
) -> dict[str, Any]:
    """Decide, annotate, shard and write the manifest; return what the report says of it.

    Args:
        store: the output.
        table: scored, of the manifest's schema.
        embeddings: by clip.
        select: what decides.
        shards: how they are laid out.
        text_embedding: what embeds captions for the Cosmos layout.
        caption: items of kept clips in, the same with captions out, in any order.
        models: sha256 of weights by name.
        work: local folder for files on their way.
        say: takes notices.
        lance: write the manifest as a Lance dataset too.

    Raises:
        InputError: Lance is asked for and not installed.
        OutputError: the output cannot be written.
    """
    decision = decide(table, embeddings, select)
    table = with_columns(table, decision.columns)
    table = _captioned(table, caption)
    kept = [place for place, stays in enumerate(table["keep"].to_pylist()) if stays]
    own = files(table)
    rows = [{**row, FILE: own[place]} for place, row in zip(kept, take(table, kept).to_pylist(), strict=True)]
    embed = None
    if shards.layout == "cosmos":
        embed = open_text_encoder(text_embedding)
        if embed is None:
            say("the shards have no t5_xxl: no text encoder is set (--text-encoder names one)")
    places = write_shards(store, rows, shards, work=work, embed=embed)
    columns: dict[str, list[Any]] = {"shard": [None] * len(table), "key": [None] * len(table)}
    for place, (shard, key) in places.items():
        columns["shard"][kept[place]], columns["key"][kept[place]] = shard, key
    table = with_columns(table, columns)
    _write_embeddings(store, embeddings)
    if decision.index is None:
        store.remove(INDEX)
    else:
        store.write_whole(INDEX, decision.index)
    if lance:
        write_lance(store, table)
    store.remove(PAGE)
    write_manifest(store, table, models=models)
    reasons = [reason for reason in table["quarantine"].to_pylist() if reason is not None]
    missing = sum(1 for row in rows if row["caption"] is None)
    if missing:
        say(f"{missing} kept clips have no caption; run again to caption them")
    return {
        "clips": len(table),
        "kept": len(rows),
        "hours": sum(seconds or 0 for seconds in table["duration_s"].to_pylist()) / 3600,
        "kept_hours": sum(row["duration_s"] for row in rows) / 3600,
        "quarantined": len(reasons),
        "quarantine_reasons": reasons[:100],
        "uncaptioned": missing,
        "shards": len({shard for shard, _ in places.values()}),
        "funnel": list(decision.funnel),
        **decision.report,
    }


def read_embeddings(store: "Store") -> dict[str, Float16[np.ndarray, "D"]]:
    """Return the embeddings of an output by clip; none where it has none."""
    if not store.exists(EMBEDDINGS):
        return {}
    table = from_parquet(store.read_bytes(EMBEDDINGS)).combine_chunks()
    flat = table["embedding"].combine_chunks().values.to_numpy(zero_copy_only=False)
    ids = table["clip_id"].to_pylist()
    return dict(zip(ids, flat.reshape(len(ids), -1), strict=True))


def _write_embeddings(store: "Store", embeddings: Embeddings) -> None:
    import pyarrow as pa

    ids = sorted(embeddings)
    if not ids:
        store.remove(EMBEDDINGS)
        return
    flat = pa.array(np.concatenate([embeddings[name] for name in ids]))
    width = len(embeddings[ids[0]])
    arrays = {"clip_id": pa.array(ids), "embedding": pa.FixedSizeListArray.from_arrays(flat, width)}
    store.write_whole(EMBEDDINGS, to_parquet(pa.table(arrays)))


def _captioned(table: "pa.Table", caption: Caption) -> "pa.Table":
    """The table with captions of what stays; a clip that no captioner could do is put aside."""
    kept = [place for place, stays in enumerate(table["keep"].to_pylist()) if stays]
    told = [column.name for column in COLUMNS if column.name not in (*CAPTIONED, QUARANTINE)]
    rows = take(table.select(told), kept).to_pylist()
    places = {row["clip_id"]: place for place, row in zip(kept, rows, strict=True)}
    own = files(table)
    items = [
        Item(id=row["clip_id"], path=clip_name(own[place]), columns=row) for place, row in zip(kept, rows, strict=True)
    ]
    columns = {name: table[name].to_pylist() for name in ("keep", "drop_rule", "drop_value", QUARANTINE)}
    columns |= {name: [None] * len(table) for name in CAPTIONED}
    for item in caption(items):
        place, reason = places[item.id], item.columns.get(QUARANTINE)
        if reason is not None:
            columns["keep"][place], columns["drop_rule"][place] = False, QUARANTINE
            columns["drop_value"][place] = columns[QUARANTINE][place] = reason
            continue
        for name in CAPTIONED:
            columns[name][place] = item.columns.get(name)
    return with_columns(table, columns)
