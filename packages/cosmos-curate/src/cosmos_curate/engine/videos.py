"""Videos below a folder: what is one by its name and what is not; nothing here stops a run."""

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
class Listing:
    """What is below a folder, each list sorted by name.

    Args:
        videos: names, as paths below the folder; those that cannot be opened too, for the run to put aside.
        unreadable: folders that cannot be listed and names that are no text, with the reason.
        others: files that are no videos, hidden ones apart, with the reason.
    """

    videos: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)

    @property
    def skipped(self) -> list[dict[str, str]]:
        """All that is no item of the run: `name` and `reason`."""
        return [{"name": name, "reason": reason} for name, reason in sorted([*self.unreadable, *self.others])]

    @property
    def notices(self) -> list[str]:
        """What a person should know, a line each."""
        lines = [f"{name} is passed by: {reason}" for name, reason in self.unreadable]
        if self.others:
            count = len(self.others)
            files = "1 file is" if count == 1 else f"{count} files are"
            lines.append(f"{files} passed by, being no video: {self.others[0][0]}{' and others' if count > 1 else ''}")
        return lines


def find_videos(store: Store, apart: Store | None = None) -> Listing:
    """Return the videos below the folder, at any depth, sorted by name.

    Hidden files and folders are passed by. A link to a file counts as a file; a link to a folder is followed once, and
    not if it leads to the folder itself, into it, or above it.

    Args:
        apart: the output, which no link makes part of the folder.

    Raises:
        InputError: the folder is not there, or is no folder.
    """
    found = Listing()
    if store.fs is not None:
        try:
            names = store.list()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{store.url} cannot be listed: {reason}") from error
        for name in names:
            parts = name.split("/")
            if {"", ".", ".."} & set(parts):
                found.unreadable.append((_shown(name), "its name is no path inside the folder"))
            elif not any(part.startswith(".") for part in parts):
                _sort_in(found, name)
    else:
        if not os.path.isdir(store.root):
            raise InputError(f"{store.root} is no folder")
        top = os.path.realpath(store.root)
        _walk(found, top, os.path.realpath(apart.root) if apart is not None and apart.is_local else None)
    for names in (found.videos, found.unreadable, found.others):
        names.sort()
    return found


def _walk(found: Listing, top: str, apart: str | None) -> None:
    """List with a stack of its own, as folders may nest deeper than calls do."""
    seen, waiting = set(), [(top, "")]
    if apart is not None and os.path.isdir(apart):
        seen.add(_identity(apart))
    while waiting:
        folder, name = waiting.pop()
        try:
            identity = _identity(folder)
            entries = [] if identity in seen else sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable.append((_shown(name or "."), f"folder: {error.strerror}"))
            continue
        seen.add(identity)
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{name}/{entry.name}" if name else entry.name
            try:
                mode = entry.stat().st_mode
            except OSError:
                _sort_in(found, path)
                continue
            if not stat.S_ISDIR(mode):
                _sort_in(found, path, "" if stat.S_ISREG(mode) else "no regular file")
            elif not entry.is_symlink() or _leads_on(os.path.realpath(entry.path), top, apart):
                below.append((entry.path, path))
        waiting += reversed(below)


def _sort_in(found: Listing, name: str, other: str = "") -> None:
    if os.path.splitext(name)[1].lower() not in SUFFIXES:
        other = other or "no video by its name"
    if other:
        found.others.append((_shown(name), other))
    elif _shown(name) != name:
        found.unreadable.append((_shown(name), "its name is not UTF-8"))
    else:
        found.videos.append(name)


def _leads_on(to: str, top: str, apart: str | None) -> bool:
    """Whether a link leads to what is not listed anyway: not above or into the folder, nor into what is kept apart."""
    if os.path.commonpath([to, top]) in (to, top):
        return False
    return apart is None or os.path.commonpath([to, apart]) != apart


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _shown(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")
