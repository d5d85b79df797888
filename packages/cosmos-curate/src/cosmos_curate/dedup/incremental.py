"""Later clips against those that were kept: frozen centroids, and one file that holds all that is needed."""

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int32

from cosmos_curate.dedup.cells import Assignment, assign
from cosmos_curate.dedup.clips import DedupInput, Duplicates, Ranked
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.resolve import resolve
from cosmos_curate.dedup.rows import Rows
from cosmos_curate.errors import InputError

FILE = "dedup.npz"
"""Name of the index in a run's output."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DedupIndex:
    """The kept clips and the cells they lie in.

    Args:
        ids: of the kept clips.
        embeddings: as they were given.
        sha256: "" for none.
        phash: "" for none.
        duration_s: seconds.
        first: cell of each; -1 without an embedding.
        second: second cell of each, or -1.
        centroids: none where all pairs are compared.
        eps: the largest threshold that the second cells serve.
    """

    ids: list[str]
    embeddings: Float16[np.ndarray, "N D"]
    sha256: list[str]
    phash: list[str]
    duration_s: Float64[np.ndarray, "N"]
    first: Int32[np.ndarray, "N"]
    second: Int32[np.ndarray, "N"]
    centroids: Float32[np.ndarray, "K D"]
    eps: float

    def save(self, path: Path) -> None:
        """Write the index as one file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as file:
            np.savez(file, **self.arrays())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)

    def to_bytes(self) -> bytes:
        """Return the file as bytes, for a place that is no path."""
        file = io.BytesIO()
        np.savez(file, **self.arrays())
        return file.getvalue()

    def arrays(self) -> dict[str, Any]:
        """Return what the file holds; clips of one cell are side by side."""
        order = np.argsort(self.first, kind="stable")
        return {
            "format": np.array(FORMAT),
            "ids": texts([self.ids[row] for row in order]),
            "embeddings": self.embeddings[order],
            "sha256": texts([self.sha256[row] for row in order]),
            "phash": texts([self.phash[row] for row in order]),
            "duration_s": self.duration_s[order],
            "first": self.first[order],
            "second": self.second[order],
            "centroids": self.centroids,
            "eps": np.array(self.eps),
        }


def load_index(source: Path | bytes) -> DedupIndex:
    """Read an index, from a file or its bytes; of a file the embeddings are mapped, and read when they are used.

    Raises:
        InputError: it is not there, or is no index of this format.
    """
    name = source if isinstance(source, Path) else "what was read"
    try:
        if isinstance(source, bytes):
            return read(io.BytesIO(source))
        with source.open("rb") as file:
            return read(file, mapped(source, "embeddings"))
    except FileNotFoundError:
        raise InputError(f"{name} is not there; deduplicate first") from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{name} is no index of clips ({error}); deduplicate again") from None


def read(file: io.BufferedIOBase, embeddings: np.ndarray | None = None) -> DedupIndex:
    """Read an index from an open file, but for embeddings that are given."""
    if not zipfile.is_zipfile(file):
        raise ValueError("no npz")
    file.seek(0)
    with np.load(file, allow_pickle=False) as held:
        if int(held["format"]) != FORMAT:
            raise ValueError(f"format {int(held['format'])}, not {FORMAT}")
        return DedupIndex(
            ids=strings(held["ids"]),
            embeddings=held["embeddings"] if embeddings is None else embeddings,
            sha256=strings(held["sha256"]),
            phash=strings(held["phash"]),
            duration_s=held["duration_s"],
            first=held["first"],
            second=held["second"],
            centroids=held["centroids"],
            eps=float(held["eps"]),
        )


def mapped(path: Path, name: str) -> np.ndarray:
    """Return an array of an uncompressed npz as a memory map, which numpy does for single files alone."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        file.seek(archive.getinfo(f"{name}.npy").header_offset)
        header = file.read(30)
        # A zip's local header: 30 bytes, the last two pairs of which are the lengths of name and extra field.
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def texts(values: list[str]) -> np.ndarray:
    """Return texts as UTF-8, a line each."""
    return np.frombuffer("".join(f"{value}\n" for value in values).encode(), np.uint8)


def strings(held: np.ndarray) -> list[str]:
    """Undo `texts`."""
    return held.tobytes().decode().split("\n")[:-1]


def index_of(clips: DedupInput, found: Duplicates, config: DedupConfig | None = None) -> DedupIndex:
    """Return the index of the clips that were kept, by rank.

    Args:
        found: of `find_duplicates` with the same clips and settings.
    """
    config = config or DedupConfig()
    order = clips.order()
    kept = order[np.array([found.dup_of[row] is None for row in order], bool)]
    rows = Rows([clips.embeddings], kept)
    usable = rows.usable()
    cells = assign(rows, np.flatnonzero(usable), found.centroids, config)
    first, second = np.full(len(kept), -1, np.int32), np.full(len(kept), -1, np.int32)
    first[usable], second[usable] = cells.first, cells.second
    return DedupIndex(
        ids=[clips.ids[row] for row in kept],
        embeddings=clips.embeddings[kept],
        sha256=[clips.sha256[row] or "" for row in kept],
        phash=[clips.phash[row] or "" for row in kept],
        duration_s=clips.duration_s[kept],
        first=first,
        second=second,
        centroids=found.centroids,
        eps=config.eps,
    )


def add(index: DedupIndex, clips: DedupInput, config: DedupConfig | None = None) -> tuple[Duplicates, DedupIndex]:
    """Return which new clips are copies, of kept clips or of one another, and the index with those that are not.

    Kept clips stay, even where a new copy has more pixels: shards that were written are not touched. Otherwise the
    result is that of all clips at once, if the new ones rank below the kept ones.

    Raises:
        InputError: a clip is in the index already, or eps is larger than the index serves.
    """
    config = config or DedupConfig(eps=index.eps)
    if config.eps > index.eps:
        raise InputError(f"eps is {config.eps}, and the index serves up to {index.eps}; deduplicate all clips again")
    known = set(index.ids).intersection(clips.ids)
    if known:
        raise InputError(f"clip {min(known)} is in the index already; pass clips that are new")
    if index.ids and clips.ids and index.embeddings.shape[1] != clips.embeddings.shape[1]:
        raise InputError(
            f"embeddings have {clips.embeddings.shape[1]} numbers, and the index {index.embeddings.shape[1]}; "
            "use the model that the index was made with"
        )
    order, held = clips.order(), len(index.ids)
    ranked = Ranked(
        rows=Rows([index.embeddings, clips.embeddings], np.concatenate([np.arange(held), held + order])),
        sha256=[value or None for value in index.sha256] + [clips.sha256[row] for row in order],
        phash=[value or None for value in index.phash] + [clips.phash[row] for row in order],
        duration_s=np.concatenate([index.duration_s, clips.duration_s[order]]),
        held=held,
    )
    found, cells = resolve(ranked, config, index.centroids, Assignment(index.first, index.second))
    ids = index.ids + [clips.ids[row] for row in order]
    kept = np.flatnonzero(found.keeper < 0)
    grown = DedupIndex(
        ids=[ids[rank] for rank in kept],
        embeddings=ranked.rows.raw(kept),
        sha256=[ranked.sha256[rank] or "" for rank in kept],
        phash=[ranked.phash[rank] or "" for rank in kept],
        duration_s=ranked.duration_s[kept],
        first=cells.first[kept],
        second=cells.second[kept],
        centroids=index.centroids,
        eps=index.eps,
    )
    return found.named(ids, order), grown
