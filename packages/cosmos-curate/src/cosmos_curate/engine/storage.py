"""Folders of files by fsspec (local, s3, gs, memory): whole files only, names that stay inside, local copies."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_curate.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PARTIAL = ".partial"
"""Suffix of a file that is being written, hidden besides; whoever holds the output may remove those it finds."""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
"""Extras of this package by protocol."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that are the disk's and not the item's."""


class OutputError(Exception):
    """The output cannot be written, so the run stops; one line. Nothing half-written is left under a final name."""


class Store:
    """A folder, local or remote; it pickles as its address, and credentials come from the environment alone.

    Args:
        url: a path, or an address as fsspec has it: `s3://bucket/folder`, `gs://bucket/folder`, `memory://folder`.

    Raises:
        InputError: no such protocol, or its package is not installed.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        protocol, _, rest = self.url.partition("://")
        self.fs: AbstractFileSystem | None = None
        if not self.url:
            raise InputError("a folder has no name: give a path or an address such as s3://bucket/folder")
        if "\0" in self.url:
            raise InputError(f"folder {self.url!r} has a NUL in its name")
        if "://" not in self.url or protocol == "file":
            self.url = self.root = os.path.abspath(rest if protocol == "file" and rest else self.url)
            return
        from fsspec.core import url_to_fs

        try:
            self.fs, root = url_to_fs(self.url)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            way = f"pip install cosmos-curate[{extra}]" if extra else str(error)
            raise InputError(f"{self.url}: reading {protocol} addresses needs a package: {way}") from None
        except ValueError as error:
            raise InputError(f"{self.url} is no address that fsspec knows: {error}") from None
        self.root = root.rstrip("/")

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self.fs is None

    def path(self, name: str) -> str:
        """Return the file's path as the file system has it.

        Raises:
            InputError: the name would leave the folder.
        """
        parts = name.split("/")
        windows = os.sep == "\\" and ("\\" in name or ":" in name)
        if any(part in ("", ".", "..") for part in parts) or "\0" in name or windows:
            raise InputError(f"{name!r} is no name of a file inside {self.url}")
        return os.path.join(self.root, *parts) if self.fs is None else f"{self.root}/{name}"

    def read_bytes(self, name: str) -> bytes:
        """Return the file's bytes.

        Raises:
            FileNotFoundError: it is not there.
        """
        path = self.path(name)
        if self.fs is None:
            return Path(path).read_bytes()
        return bytes(self.fs.cat_file(path))  # pyright: ignore[reportArgumentType]

    def exists(self, name: str) -> bool:
        """Return whether the file is there, whole."""
        path = self.path(name)
        return os.path.isfile(path) if self.fs is None else self.fs.isfile(path)

    def size(self, name: str) -> int:
        """Return the file's bytes, counted.

        Raises:
            FileNotFoundError: it is not there.
        """
        path = self.path(name)
        return os.stat(path).st_size if self.fs is None else int(self.fs.size(path) or 0)

    def list(self, prefix: str = "") -> list[str]:
        """Return the names of all files below the folder `prefix`, sorted; none if it is not there."""
        top = self.path(prefix) if prefix else self.root
        if self.fs is None:
            found = (os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names)
            return sorted(
                os.path.relpath(path, self.root).replace(os.sep, "/") for path in found if not path.endswith(PARTIAL)
            )
        self.fs.invalidate_cache()
        try:
            return sorted(path[len(self.root) :].lstrip("/") for path in self.fs.find(top))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove the file if it is there.

        Raises:
            OutputError: it stays.
        """
        path = self.path(name)
        with failing(self, name), suppress(FileNotFoundError):
            if self.fs is None:
                os.unlink(path)
            else:
                self.fs.rm_file(path)

    def write_whole(self, name: str, data: bytes, *, flush: bool = True) -> None:
        """Write a file so that under its name there is the whole of it or what was there before, even after kill -9.

        Args:
            flush: on a local disk, wait until the bytes are on it, so that a power cut cannot lose them.

        Raises:
            OutputError: the file cannot be written; a full disk among the reasons.
        """
        path = self.path(name)
        with failing(self, name):
            if self.fs is None:
                _replace(path, lambda target: _write(target, data, flush))
            else:
                self.fs.pipe_file(path, data)

    def put_whole(self, name: str, source: str | os.PathLike[str]) -> None:
        """Move a local file to the name, whole or not at all; the file is gone afterwards.

        Raises:
            OutputError: as `write_whole`.
            FileNotFoundError: there is no file to move.
        """
        path, source = self.path(name), os.fspath(source)
        os.stat(source)
        with failing(self, name):
            if self.fs is None:
                _replace(path, lambda target: _move(source, target))
            else:
                self.fs.put_file(source, path)
        with suppress(FileNotFoundError):
            os.unlink(source)

    @contextmanager
    def local(self, name: str, work: str | os.PathLike[str]) -> Iterator[str]:
        """Give a path of this machine with the file's bytes: the file itself, or a copy in the folder `work`.

        The copy is removed afterwards.

        Raises:
            FileNotFoundError: it is not there.
        """
        path = self.path(name)
        if self.fs is None:
            os.stat(path)
            yield path
            return
        os.makedirs(work, exist_ok=True)
        copy = os.path.join(work, secrets.token_hex(8) + os.path.splitext(name)[1])
        try:
            self.fs.get_file(path, copy)
            yield copy
        finally:
            with suppress(FileNotFoundError):
                os.unlink(copy)

    def sweep(self) -> None:
        """Remove what a killed run left half-written; only for the one that holds the output's lock."""
        if self.fs is None:
            for folder, _, names in os.walk(self.root):
                for name in names:
                    if name.startswith(".") and name.endswith(PARTIAL):
                        os.unlink(os.path.join(folder, name))


@contextmanager
def failing(store: Store, name: str) -> Iterator[None]:
    """Turn any failure to write into an OutputError of one line."""
    try:
        yield
    except (InputError, OutputError):
        raise
    except Exception as error:
        if store.is_local and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OutputError(
            f"cannot write {name} to {store.url}: {' '.join(reason.split())}; mend that and run again"
        ) from error


def _replace(path: str, write: Callable[[str], None]) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    beside = os.path.join(folder, f".{secrets.token_hex(8)}{PARTIAL}")
    try:
        write(beside)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _write(path: str, data: bytes, flush: bool) -> None:
    with open(path, "xb") as file:
        file.write(data)
        if flush:
            file.flush()
            os.fsync(file.fileno())


def _move(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError:
        import shutil

        shutil.copyfile(source, target)
    with open(target, "rb+") as file:
        os.fsync(file.fileno())
