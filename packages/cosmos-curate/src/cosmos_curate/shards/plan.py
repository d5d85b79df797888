"""Which clips go into which tar, in an order that depends on the clips and a seed alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cosmos_curate.errors import InputError
from cosmos_curate.shards.bins import Bins

LAYOUTS = ("webdataset", "cosmos")


@dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """How shards are laid out.

    Args:
        layout: "webdataset", where a tar has the clip and the record of each key; or "cosmos", where the tars of
            folders `video`, `metas` and, where there are text embeddings, `t5_xxl` lie parallel.
        bins: folders by resolution, aspect and length.
        most_bytes: of a tar's clips; one clip may be larger.
        most_clips: of a tar.
        seed: of the order, which mixes sources.

    Raises:
        InputError: a layout of another name, or a cap below 1.
    """

    layout: str = "webdataset"
    bins: Bins = field(default_factory=Bins)
    most_bytes: int = 500_000_000
    most_clips: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InputError(f"shard layout {self.layout!r} is none of {', '.join(LAYOUTS)}")
        for name in ("most_bytes", "most_clips"):
            if getattr(self, name) < 1:
                raise InputError(f"shards: {name} {getattr(self, name)} must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One tar to write.

    Args:
        name: path below the folder of shards, without what the layout adds.
        keys: of its records, in order.
        places: of each key's row among those that were planned.
    """

    name: str
    keys: tuple[str, ...]
    places: tuple[int, ...]


def plan(rows: Sequence[Mapping[str, Any]], config: ShardConfig) -> list[Shard]:
    """Return the tars for kept rows of the manifest; a row whose `repeats` is above 1 has so many keys."""
    folders: dict[str, list[tuple[str, str, int]]] = {}
    for place, row in enumerate(rows):
        folder = config.bins.folder(width=row["width"], height=row["height"], duration_s=row["duration_s"])
        for copy in range(row["repeats"] or 1):
            key = row["clip_id"] if copy == 0 else f"{row['clip_id']}-{copy}"
            order = hashlib.sha256(f"{config.seed}/{key}".encode()).hexdigest()
            folders.setdefault(folder, []).append((order, key, place))
    shards = []
    for folder in sorted(folders):
        groups: list[list[tuple[str, int]]] = []
        size = 0
        for _, key, place in sorted(folders[folder]):
            if not groups or size + rows[place]["bytes"] > config.most_bytes or len(groups[-1]) >= config.most_clips:
                groups.append([])
                size = 0
            groups[-1].append((key, place))
            size += rows[place]["bytes"]
        for number, group in enumerate(groups):
            keys, places = zip(*group, strict=True)
            shards.append(Shard(name=f"{folder}/{number:06}.tar", keys=keys, places=places))
    return shards
