"""Videos below a folder: what is one by its name, what is not, and what cannot be read; nothing here stops a run."""

import os
import stat
from dataclasses import dataclass, field

from cosmos_curate.engine.storage import Store
from cosmos_curate.errors import InputError

SUFFIXES = frozenset(
    ".mp4 .mov .m4v .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .wmv .flv .3gp .ogv .gif".split()  # noqa: SIM905
)
"""Of videos, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is below a folder, each list sorted by name.

    Args:
        videos: names, as paths below the folder.
        unreadable: videos and folders that cannot be read, by name, with the reason.
        others: files that are no videos by their name, hidden ones apart, with the reason.
    """

    videos: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)


def find_videos(store: Store) -> Found:
    """Return the videos below the folder, at any depth, sorted by name.

    Hidden files and folders are passed by. A link to a file counts as a file; a link to a folder is followed once, and
    not if it leads to the folder itself, into it, or above it.

    Raises:
        InputError: the folder is not there, or is no folder.
    """
    found = Found()
    if store.fs is not None:
        for name in store.list():
            if not any(part.startswith(".") for part in name.split("/")):
                _sort_in(found, name, "")
    else:
        if not os.path.isdir(store.root):
            raise InputError(f"{store.root} is no folder")
        top = os.path.realpath(store.root)
        _walk(found, top, "", {_identity(top)}, top)
    for names in (found.videos, found.unreadable, found.others):
        names.sort()
    return found


def _walk(found: Found, folder: str, name: str, seen: set[tuple[int, int]], top: str) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.unreadable.append((_shown(name or "."), f"folder: {error.strerror}"))
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        below = f"{name}/{entry.name}" if name else entry.name
        try:
            mode = entry.stat().st_mode
            if not stat.S_ISDIR(mode):
                _sort_in(found, below, "" if stat.S_ISREG(mode) else "no regular file", entry.path)
                continue
            if entry.is_symlink() and _related(os.path.realpath(entry.path), top):
                continue
            identity = _identity(entry.path)
        except OSError as error:
            _sort_in(found, below, "", reason=error.strerror or "cannot be read")
            continue
        if identity not in seen:
            seen.add(identity)
            _walk(found, entry.path, below, seen, top)


def _sort_in(found: Found, name: str, other: str, path: str | None = None, reason: str = "") -> None:
    if path is not None and not reason and not os.access(path, os.R_OK):
        reason = "Permission denied"
    if _shown(name) != name:
        reason = "its name is not UTF-8"
    if os.path.splitext(name)[1].lower() not in SUFFIXES:
        other = other or "no video by its name"
    if other:
        found.others.append((_shown(name), other))
    elif reason:
        found.unreadable.append((_shown(name), reason))
    else:
        found.videos.append(name)


def _related(one: str, top: str) -> bool:
    """Whether one of the two folders holds the other."""
    return os.path.commonpath([one, top]) in (one, top)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")
