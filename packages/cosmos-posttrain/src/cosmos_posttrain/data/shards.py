"""Samples of tar shards: webdataset's layout, and the Cosmos layout of parallel tars `video`, `metas` and `t5_xxl`.

In webdataset's layout the members of a sample share a name up to its first dot: a clip (.mp4 and other videos,
pictures, .npy), and where there are any a .json record and a .txt caption. In the Cosmos layout .../video/PART/N.tar
has the clips and .../metas/PART/N.tar the records of the same keys; text embeddings are left alone.

Of a record these are read: `num_frames` or `frames`, `height`, `width`, `framerate` or `rate`, `caption`, or the first
caption of its `windows`. What it lacks is taken from the clip's own header.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.data.clips import describe_clip, rank, read_clip
from cosmos_posttrain.data.source import Description
from cosmos_posttrain.data.stored import Stored
from cosmos_posttrain.data.tars import Member, read_members
from cosmos_tokenizer import InputError

VIDEO, METAS, EMBEDDINGS = "video", "metas", "t5_xxl"

_ABSENT = (-1, 0, 0)


class Shards:
    """Samples of some tar files of a folder; each file's members are found once, when this is made."""

    def __init__(self, folder: Path, tars: Sequence[Path], say: Callable[[str], None]) -> None:
        self._folder = folder
        self._tars: list[Path] = []
        self._keys: list[str] = []
        clips, records, texts = [], [], []
        for path in tars:
            shard = path.relative_to(folder).as_posix()
            for key, members in self._samples(path, say).items():
                clip = min((m for m in members if rank(m[1].name) is not None), key=_preference, default=None)
                if clip is None:
                    continue
                named = {member.name.rpartition(".")[2].lower(): (tar, member) for tar, member in reversed(members)}
                self._keys.append(f"{shard}/{key}.{_suffix(clip[1].name)}")
                clips.append(_place(clip))
                records.append(_place(named.get("json")))
                texts.append(_place(named.get("txt")))
        # Millions of samples fit into arrays that would not fit into objects, and every worker has a copy.
        self._clips, self._records, self._texts = (
            np.array(places, np.int64).reshape(-1, 3) for places in (clips, records, texts)
        )

    def __len__(self) -> int:
        return len(self._keys)

    def describe(self, index: int) -> Description:
        """Return what a sample's record says, and where it says too little, its clip's header."""
        record = self._record(index)
        text = self._text(index) or _caption(record)
        frames = _whole(record.get("num_frames", record.get("frames")))
        height, width = _whole(record.get("height")), _whole(record.get("width"))
        if frames is None or height is None or width is None:
            return describe_clip(self._clip(index), text)
        rate = record.get("framerate", record.get("rate"))
        rate = float(rate) if isinstance(rate, int | float) and rate > 0 else None
        return Description(key=self._keys[index], frames=frames, height=height, width=width, rate=rate, text=text)

    def read(self, index: int, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
        """Read a window of a sample's clip."""
        return read_clip(self._clip(index), first, count, step)

    def _samples(self, path: Path, say: Callable[[str], None]) -> dict[str, list[tuple[int, Member]]]:
        """Members of a shard, and of those that lie parallel to it, by key, each with the number of its tar file."""
        found: dict[str, list[tuple[int, Member]]] = {}
        for part in _parallel(path):
            try:
                members = read_members(part, say)
            except OSError as error:
                say(f"{part}: cannot be read ({error.strerror}); it is passed over")
                continue
            for member in members:
                key = _key(member.name)
                if key is not None:
                    found.setdefault(key, []).append((len(self._tars), member))
            self._tars.append(part)
        return found

    def _stored(self, place: np.ndarray, name: str) -> Stored:
        tar, offset, size = place.tolist()
        return Stored(path=self._tars[tar], name=name, offset=offset, size=size)

    def _clip(self, index: int) -> Stored:
        return self._stored(self._clips[index], self._keys[index])

    def _record(self, index: int) -> dict[str, Any]:
        if self._records[index, 0] < 0:
            return {}
        try:
            record = json.loads(self._stored(self._records[index], self._keys[index]).read())
        except (InputError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _text(self, index: int) -> str | None:
        if self._texts[index, 0] < 0:
            return None
        try:
            return self._stored(self._texts[index], self._keys[index]).read().decode("utf-8", "replace").strip() or None
        except InputError:
            return None


def is_parallel(folder: Path, path: Path) -> bool:
    """Tell whether a tar file below a folder adds to another, as records and embeddings in the Cosmos layout do."""
    inside = path.relative_to(folder).parts
    return any(
        part in (METAS, EMBEDDINGS) and (folder.joinpath(*inside[:place]) / VIDEO).is_dir()
        for place, part in enumerate(inside)
    )


def _parallel(path: Path) -> Iterator[Path]:
    """Yield a shard, and the shard of its records where it lies in a folder `video` beside a folder `metas`."""
    yield path
    for place in reversed(range(len(path.parts) - 1)):
        metas = Path(*path.parts[:place], METAS, *path.parts[place + 1 :])
        if path.parts[place] == VIDEO and metas.is_file():
            yield metas
            return


def _key(name: str) -> str | None:
    """Return what webdataset takes for the key of a member; None for hidden files and its own notes."""
    folder, slash, base = name.rpartition("/")
    stem = base.partition(".")[0]
    return f"{folder}{slash}{stem}" if stem and not base.startswith("__") else None


def _suffix(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2]


def _preference(placed: tuple[int, Member]) -> tuple[int, int]:
    name = placed[1].name
    return rank(name) or 0, _suffix(name).count(".")


def _place(placed: tuple[int, Member] | None) -> tuple[int, int, int]:
    return _ABSENT if placed is None else (placed[0], placed[1].offset, placed[1].size)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _caption(record: dict[str, Any]) -> str | None:
    windows = record.get("windows")
    places = [record, *(windows if isinstance(windows, list) else [])]
    captions = (
        value
        for place in places
        if isinstance(place, dict)
        for name, value in place.items()
        if (name == "caption" or name.endswith("_caption")) and isinstance(value, str) and value.strip()
    )
    found = next(captions, None)
    return None if found is None else found.strip()
