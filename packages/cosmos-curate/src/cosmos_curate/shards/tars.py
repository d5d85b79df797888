"""Tar files of webdataset's layout: equal members give equal bytes, and an index tells where each begins."""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cosmos_curate.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a tar file came to.

    Args:
        sha256: of its bytes.
        size: bytes.
        index: text of the index in the form that DALI's `wds2idx` gives it (v1.2): suffix, offset, size and name of
            each member, a key to a line.
    """

    sha256: str
    size: int
    index: str


def write_tar(path: Path, members: Iterable[tuple[str, bytes | Path]]) -> Written:
    """Write members, bytes or files, in order; those of one key behind one another.

    Raises:
        InputError: a name that leads out of the folder that a tar is unpacked in.
        OSError: a file cannot be read, or the tar not written.
    """
    lines: dict[str, list[str]] = {}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            if "/" in name or "\\" in name or name.startswith(".") or "\0" in name:
                raise InputError(f"member {name!r} of {path.name} is no plain file name")
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if isinstance(content, Path):
                info.size = content.stat().st_size
                with content.open("rb") as file:
                    tar.addfile(info, file)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            key, _, suffix = name.partition(".")
            data = tar.offset - -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            lines.setdefault(key, []).append(f"{suffix} {data} {info.size} {name}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    index = "".join(f"{' '.join(entries)}\n" for entries in lines.values())
    return Written(sha256=digest, size=path.stat().st_size, index=f"v1.2 {len(lines)}\n{index}")
