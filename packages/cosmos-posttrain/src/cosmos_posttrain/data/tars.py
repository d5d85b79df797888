"""Members of a tar file by their place in it, found once: by hopping from header to header, or from an index beside it.

Headers are POSIX ustar with GNU's long names and pax records. A stretch without a whole header is passed over up to the
next one; a file that ends early gives the members before the break. The index is the text file that DALI's `wds2idx`
writes (versions 1.1 and 1.2), NAME.idx beside NAME.tar; one that does not fit its tar file is left aside.
"""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

_BLOCK = tarfile.BLOCKSIZE
_GZIP = b"\x1f\x8b"
_WIDTHS = {"v1.1": 3, "v1.2": 4}
_TOLD = 3


class Member(NamedTuple):
    """A plain file in a tar file: its name, where its data begin, and their length in bytes."""

    name: str
    offset: int
    size: int


def read_members(path: Path, say: Callable[[str], None]) -> list[Member]:
    """Return the whole members of a tar file; `say` is told what is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        indexed = _from_index(path, file)
        if indexed is not None:
            return indexed
        if _at(file, 0, len(_GZIP)) == _GZIP:
            say(f"{path}: is compressed, so its members have no places of their own; unpack it with gunzip")
            return []
        members, damage, ended = _hop(file)
    if damage:
        stretches = ", ".join(f"{start} to {stop}" for start, stop in damage[:_TOLD])
        more = f" and {len(damage) - _TOLD} stretches more" if len(damage) > _TOLD else ""
        say(f"{path}: is damaged at bytes {stretches}{more}; the {len(members)} whole members are used")
    if not ended:
        say(f"{path}: ends early; the {len(members)} whole members before its end are used")
    return members


def _hop(file: BinaryIO) -> tuple[list[Member], list[tuple[int, int]], bool]:
    """Return the whole members, the stretches without a header, and whether the end is marked as such."""
    members: list[Member] = []
    damage: list[tuple[int, int]] = []
    size, at, ended, said = os.fstat(file.fileno()).st_size, 0, False, dict[str, str]()
    while at + _BLOCK <= size:
        block = _at(file, at, _BLOCK)
        ended = not any(block)
        if ended:
            at += _BLOCK
            continue
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            start = damage.pop()[0] if damage and damage[-1][1] == at else at
            at += _BLOCK
            damage.append((start, at))
            said = {}
            continue
        data = at + _BLOCK
        length = int(said.get("size", info.size)) if info.isreg() else info.size
        if info.type == tarfile.GNUTYPE_LONGNAME:
            said["path"] = _at(file, data, length).partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif info.type == tarfile.XHDTYPE:
            said |= _pax(_at(file, data, length))
        else:
            if info.isreg() and data + length <= size:
                members.append(Member(said.get("path", info.name), data, length))
            said = {}
        at = data + (-(-length // _BLOCK) * _BLOCK if info.isreg() or info.type in b"LKxgX" else 0)
    return members, damage, ended and at <= size


def _pax(records: bytes) -> dict[str, str]:
    """Read the path and the size out of `LENGTH KEY=VALUE` records; what is malformed says nothing."""
    found = {}
    while records:
        length, _, _ = records.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(records):
            break
        key, _, value = records[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path" or (key == b"size" and value.isdigit()):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        records = records[int(length) :]
    return found


def _from_index(path: Path, file: BinaryIO) -> list[Member] | None:
    """Return the members that the index lists; None where there is none, or it is of another tar file."""
    index = path.with_name(path.name.partition(".")[0] + ".idx")
    members: list[Member] = []
    try:
        head, *lines = index.read_text().splitlines()
        version, count = head.split()
        for number, line in enumerate(lines):
            fields = iter(line.split(" "))
            for entry in zip(*[fields] * _WIDTHS[version], strict=True):
                suffix, offset, size, *name = entry
                members.append(Member(name[0] if name else f"{number:09}.{suffix}", int(offset), int(size)))
    except (OSError, ValueError, KeyError):
        return None
    whole = bool(members) and int(count) == len(lines)
    return members if whole and all(_is_header_of(file, member) for member in (members[0], members[-1])) else None


def _is_header_of(file: BinaryIO, member: Member) -> bool:
    try:
        info = tarfile.TarInfo.frombuf(_at(file, member.offset - _BLOCK, _BLOCK), "utf-8", "surrogateescape")
    except (tarfile.HeaderError, OSError):
        return False
    return info.size == member.size and member.offset + member.size <= os.fstat(file.fileno()).st_size


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    return os.pread(file.fileno(), count, offset)
