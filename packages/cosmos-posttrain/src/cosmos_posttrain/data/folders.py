"""Clips and pictures of a folder and the folders in it; with captions in NAME.txt beside them, or in metas/NAME.txt.

The second is the plain Cosmos layout, dataset/{videos/NAME.mp4, metas/NAME.txt}. Headers are read once and kept in
memory.
"""

from pathlib import Path, PurePath

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.data.clips import describe_clip, rank, read_clip
from cosmos_posttrain.data.source import Description
from cosmos_posttrain.data.stored import Stored
from cosmos_tokenizer import InputError

_VIDEOS, _METAS = "videos", "metas"


class Folder:
    """The clips of a folder, in the order of their names; `names` are relative to it."""

    def __init__(self, folder: Path, names: list[PurePath]) -> None:
        self._folder, self._names = folder, names
        self._described: dict[int, Description] = {}

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> Description:
        """Return what a clip's header says; it is read the first time only."""
        if index not in self._described:
            self._described[index] = describe_clip(self._stored(index), self._text(self._names[index]))
        return self._described[index]

    def read(self, index: int, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
        """Read a window of a clip."""
        return read_clip(self._stored(index), first, count, step)

    def _stored(self, index: int) -> Stored:
        name = self._names[index]
        return Stored(path=self._folder / name, name=name.as_posix())

    def _text(self, name: PurePath) -> str | None:
        places = [name]
        if _VIDEOS in name.parts[:-1]:
            at = name.parts.index(_VIDEOS)
            places.append(PurePath(*name.parts[:at], _METAS, *name.parts[at + 1 :]))
        for place in places:
            path = self._folder / place.with_suffix(".txt")
            try:
                if path.is_file():
                    return path.read_text("utf-8", "replace").strip() or None
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror}); check it") from error
        return None


def clip_names(folder: Path) -> list[PurePath]:
    """Return the clips and pictures below a folder, in the order of their names; hidden ones are left out."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if rank(path.name) is not None and path.is_file())
    return sorted(name for name in names if not any(part.startswith(".") for part in name.parts))
