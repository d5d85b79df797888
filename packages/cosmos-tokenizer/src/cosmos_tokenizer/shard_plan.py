"""Which clip goes into which shard, settled before any is encoded, and the manifest that keeps it.

`manifest.json` stands in the folder of shards from the start: the format, the model, the options, and for each shard
its clips. While the work goes on, each finished shard has its figures in a file beside it, which is written after the
shard; at the end they all go into the manifest, and only then is the folder taken for whole.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import fsencode
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.jsontext import to_json

FORMAT, VERSION = "cosmos-tokenizer shards", 1
MANIFEST = "manifest.json"

SHARD_BYTES = 512 << 20
"""A shard takes no further clip that would bring its tokens beyond this, as the clips' headers tell their lengths."""

_ENDS = 1 << 16

_FIGURES = {"samples": int, "bytes": int, "sha256": str, "skipped": list}
"""What is known of a shard once it is finished."""

_NEW_FOLDER = "finish it with what it was begun with, or name another folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip of the folder: where it lies, its name relative to the folder, its key, and what its content is known by.

    `content` is the file's size and the SHA-256 of its first and last `_ENDS` bytes, where video files have the table
    of their frames: to read whole clips for it would take as long as to encode some of them.
    """

    path: Path
    source: str
    key: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A shard to be: its file name, and its clips in order."""

    name: str
    clips: tuple[Clip, ...]


def clips_in(folder: Path, suffixes: Collection[str]) -> list[Clip]:
    """Clips of a folder and the folders in it, by key; names that begin with a dot are left out.

    A key is ASCII and has no dot, at which readers of webdatasets cut: it is the name within the folder, without its
    suffix, with each byte but letters, digits, ``_``, ``-``, ``~`` and ``/`` spelt ``%XX``. Where that leaves several
    clips alike, as a.mov and a.mp4, their suffix stays, as in ``a%2Emov``.

    Raises:
        InputError: there is no clip in the folder.
    """
    found = [p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file()]
    names = {path: path.relative_to(folder) for path in found}
    names = {path: name for path, name in names.items() if not any(part.startswith(".") for part in name.parts)}
    if not names:
        raise InputError(f"{folder}: holds no videos or pictures; name a folder that does")
    full = {path: _key(name) for path, name in names.items()}
    short = {path: _key(name.with_suffix("")) for path, name in names.items()}
    taken = Counter(short.values()) + Counter(full.values())
    clips = [
        Clip(
            path=path,
            source=name.as_posix(),
            key=short[path] if taken[short[path]] == 1 else full[path],
            content=_content(path),
        )
        for path, name in names.items()
    ]
    return sorted(clips, key=lambda clip: clip.key)


def into_shards(clips: Iterable[tuple[Clip, int]], per_shard: int) -> list[Shard]:
    """Deal clips, each with the bytes that its tokens will take, in their order; see `SHARD_BYTES`."""
    shards: list[list[Clip]] = []
    filled = 0
    for clip, tokens in clips:
        if not shards or len(shards[-1]) == per_shard or filled + tokens > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(clip)
        filled += tokens
    return [Shard(name=f"shard-{index:06}.tar", clips=tuple(found)) for index, found in enumerate(shards)]


def new_manifest(shards: Sequence[Shard], head: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of shards of which none is made; `head` says by which model and options."""
    rows = [
        {
            "name": shard.name,
            "clips": [{"key": clip.key, "source": clip.source, "content": clip.content} for clip in shard.clips],
        }
        for shard in shards
    ]
    return {"format": FORMAT, "version": VERSION, **head, "shards": rows}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder of shards; None where nothing was begun.

    Raises:
        InputError: the manifest is damaged or of a later format, or there are shards without one.
    """
    path = folder / MANIFEST
    if not path.exists():
        stray = next(folder.glob("shard-*.tar"), None)
        if stray is not None:
            raise InputError(f"{stray}: stands in the folder without a {MANIFEST}; name another folder")
        return None
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise ValueError(manifest["format"])
        version = manifest["version"]
        if version == VERSION:
            _check(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a manifest of shards, or is damaged; name another folder") from error
    if version != VERSION:
        raise InputError(f"{path}: has shard format {version}, and {VERSION} is read; update the package")
    return manifest


def _check(manifest: Mapping[str, Any]) -> None:
    """Raise a KeyError or TypeError where something that is read from a manifest is missing or of another kind."""
    _of_kind(manifest, {"model": str, "fingerprint": dict, "options": dict, "shards": list})
    for shard in manifest["shards"]:
        _of_kind(shard, {"name": str, "clips": list})
        for clip in shard["clips"]:
            _of_kind(clip, {"key": str, "source": str, "content": str})
        if "bytes" in shard:
            _check_figures(shard)


def _check_figures(figures: Mapping[str, Any]) -> None:
    _of_kind(figures, _FIGURES)
    for skipped in figures["skipped"]:
        _of_kind(skipped, {"source": str, "reason": str})


def _of_kind(fields: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if not isinstance(fields[name], kind):
            raise TypeError(name)


def resumed(path: Path, manifest: Mapping[str, Any], head: Mapping[str, Any], clips: Iterable[Clip]) -> list[Shard]:
    """Return the shards of a manifest, once it is known that the same model, options and clips are at hand.

    Raises:
        InputError: another model, an option or a clip differs; it names the first that does.
    """
    if manifest["fingerprint"] != head["fingerprint"]:
        raise InputError(
            f"{path}: was begun with another model ({manifest['model']}, {_short(manifest)}; this is {head['model']}, "
            f"{_short(head)}); {_NEW_FOLDER}"
        )
    for name, value in head["options"].items():
        was = manifest["options"].get(name)
        if was != value:
            raise InputError(
                f"{path}: was begun with another option (--{name}: {_said(was)}, now {_said(value)}); {_NEW_FOLDER}"
            )
    rows = [row for shard in manifest["shards"] for row in shard["clips"]]
    then, now = {row["key"]: row for row in rows}, {clip.key: clip for clip in clips}
    for key in sorted(then.keys() | now.keys()):
        if key not in now:
            raise InputError(
                f"{path}: was begun with {then[key]['source']}, which is gone; put it back, or {_NEW_FOLDER}"
            )
        if key not in then:
            raise InputError(f"{path}: was begun without {now[key].source}; encode new clips into another folder")
        if then[key]["content"] != now[key].content:
            raise InputError(f"{path}: was begun when {now[key].source} was another file; {_NEW_FOLDER}")
    return [
        Shard(name=shard["name"], clips=tuple(now[row["key"]] for row in shard["clips"]))
        for shard in manifest["shards"]
    ]


def figures_of(folder: Path, shard: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the figures of a shard that was finished and is there, from its own file or the manifest's row.

    A file of figures that is damaged says nothing: the shard is made again.
    """
    try:
        figures = dict(shard) if "bytes" in shard else json.loads(_figures_file(folder, shard["name"]).read_bytes())
        _check_figures(figures)
        whole = (folder / shard["name"]).stat().st_size == figures["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {name: figures[name] for name in _FIGURES} if whole else None


def write_figures(folder: Path, name: str, figures: Mapping[str, Any]) -> None:
    """Say that the shard of that name is finished."""
    write_whole(_figures_file(folder, name), to_json(figures).encode())


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest; where it has every shard's figures, their own files go."""
    write_whole(folder / MANIFEST, (to_json(manifest, indent=1) + "\n").encode())
    if is_whole(manifest):
        for shard in manifest["shards"]:
            _figures_file(folder, shard["name"]).unlink(missing_ok=True)


def is_whole(manifest: Mapping[str, Any]) -> bool:
    """Tell whether the manifest has every shard's figures."""
    return all("bytes" in shard for shard in manifest["shards"])


def _figures_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _content(path: Path) -> str:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            ends = file.read(_ENDS)
            file.seek(max(len(ends), size - _ENDS))
            ends += file.read(_ENDS)
    except OSError:  # it will be skipped with that reason
        return f"{size} unread"
    return f"{size} {hashlib.sha256(ends).hexdigest()}"


def _key(name: Path) -> str:
    key = quote(fsencode(name.as_posix()), safe="/").replace(".", "%2E")
    return f"%5F{key[1:]}" if key.startswith("__") else key  # webdataset passes over names that begin with __x__


def _short(head: Mapping[str, Any]) -> str:
    return f"encoder {str(head['fingerprint'].get('encoder'))[:12]}"


def _said(value: str | int | None) -> str:
    return "not given" if value is None or value is False else "given" if value is True else str(value)
