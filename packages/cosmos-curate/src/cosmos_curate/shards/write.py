"""Planned shards to tar files: what is there already and has the same clips is left alone, what is stale goes.

Beside NAME.tar stand NAME.idx, the index by member, and NAME.json with its sha256. `shards/index.json` lists them all,
and is written last, so that a folder that has it is whole.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosmos_curate.clips.cut import clip_name
from cosmos_curate.engine.storage import failing
from cosmos_curate.errors import InputError
from cosmos_curate.schema import CLIP, RECORD, VERSION
from cosmos_curate.shards.plan import Shard, ShardConfig, plan
from cosmos_curate.shards.records import record
from cosmos_curate.shards.tars import Written, write_tar
from cosmos_curate.text_embeddings.member import SUFFIX, encode_member

if TYPE_CHECKING:
    from cosmos_curate.engine.storage import Store

FOLDER, INDEX = "shards", "shards/index.json"
EMBEDDING = "t5_xxl"
"""Folder of text embeddings in the Cosmos layout."""
FILE = "file"
"""Key of a row that names the clip whose file it has; its own without one."""
PER_PART = 100
"""Tars of a part's folder in the Cosmos layout."""

Row = Mapping[str, Any]
Embed = Callable[[Sequence[str]], list[np.ndarray]]


def write_shards(
    store: "Store", rows: Sequence[Row], config: ShardConfig, *, work: str, embed: Embed | None = None
) -> dict[int, tuple[str, str]]:
    """Write the shards of kept rows, and return of each row its tar below the output folder and its first key there.

    Args:
        rows: of the manifest, all kept.
        work: local folder for tars on their way.
        embed: text embeddings of captions, `L D` each, for the Cosmos layout; None leaves `t5_xxl` out.

    Raises:
        OutputError: a tar cannot be written.
        InputError: a clip is gone; a run makes it again.
    """
    places: dict[int, tuple[str, str]] = {}
    entries: list[dict[str, Any]] = []
    store.remove(INDEX)
    for shard in plan(rows, config):
        parts = _parts(shard, config, embed is not None)
        for kind, name in parts.items():
            entries.append(_write(store, shard, rows, kind, name, work, embed))
        first = next(iter(parts.values()))
        for key, place in zip(shard.keys, shard.places, strict=True):
            if place not in places or key == rows[place]["clip_id"]:
                places[place] = (first, key)
    wanted = {entry["name"].removesuffix(".tar") for entry in entries}
    for name in store.list(FOLDER):
        if name.rpartition(".")[0] not in wanted:
            store.remove(name)
    text = json.dumps({"schema": VERSION, "layout": config.layout, "shards": entries}, indent=1)
    store.write_whole(INDEX, text.encode())
    return places


def _parts(shard: Shard, config: ShardConfig, embedded: bool) -> dict[str, str]:
    """Names of a shard's tars by what they hold."""
    if config.layout == "webdataset":
        return {"all": f"{FOLDER}/{shard.name}"}
    folder, _, base = shard.name.rpartition("/")
    part = f"part_{int(base.removesuffix('.tar')) // PER_PART:06}"
    kinds = ("video", "metas", *([EMBEDDING] if embedded else []))
    return {kind: f"{FOLDER}/{folder}/{kind}/{part}/{base}" for kind in kinds}


def _write(
    store: "Store", shard: Shard, rows: Sequence[Row], kind: str, name: str, work: str, embed: Embed | None
) -> dict[str, Any]:
    """Write one tar with its index and sums, unless they are there of the same members."""
    stem = name.removesuffix(".tar")
    digest = _digest(shard, rows, kind, embed)
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        entry = json.loads(store.read_bytes(f"{stem}.json"))
        if entry["members_sha256"] == digest and store.size(name) == entry["bytes"] and store.exists(f"{stem}.idx"):
            return entry
    store.remove(f"{stem}.json")
    Path(work).mkdir(parents=True, exist_ok=True)
    with failing(store, name), tempfile.TemporaryDirectory(dir=work) as folder:
        path = Path(folder, "shard.tar")
        written: Written = write_tar(path, _members(store, shard, rows, kind, work, embed))
        store.put_whole(name, path)
    store.write_whole(f"{stem}.idx", written.index.encode())
    entry = {
        "name": name,
        "clips": len(shard.keys),
        "bytes": written.size,
        "sha256": written.sha256,
        "members_sha256": digest,
    }
    store.write_whole(f"{stem}.json", json.dumps(entry, indent=1).encode())
    return entry


def _digest(shard: Shard, rows: Sequence[Row], kind: str, embed: Embed | None) -> str:
    """Of everything that decides a tar's bytes."""
    found = hashlib.sha256(f"{kind} {getattr(embed, 'identity', '')}".encode())
    for key, place in zip(shard.keys, shard.places, strict=True):
        found.update(f"\n{key} {rows[place]['sha256']} ".encode())
        found.update(record(rows[place]))
    return found.hexdigest()


def _members(
    store: "Store", shard: Shard, rows: Sequence[Row], kind: str, work: str, embed: Embed | None
) -> Iterator[tuple[str, bytes | Path]]:
    for key, place in zip(shard.keys, shard.places, strict=True):
        row = rows[place]
        if kind in ("all", "video"):
            with _clip(store, clip_name(row.get(FILE, row["clip_id"])), work) as path:
                yield f"{key}.{CLIP}", path
        if kind in ("all", "metas"):
            yield f"{key}.{RECORD}", record(row)
        if kind == EMBEDDING and embed is not None:
            texts = [window["caption"] or "" for window in row["windows"] or []] or [row["caption"] or ""]
            yield f"{key}.{SUFFIX}", encode_member(embed(texts))


@contextlib.contextmanager
def _clip(store: "Store", name: str, work: str) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(store.local(name, work))
        except FileNotFoundError:
            raise InputError(f"{store.url}/{name} is gone; `cosmos-curate run` makes it again") from None
        yield Path(path)
