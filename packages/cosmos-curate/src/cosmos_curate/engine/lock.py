"""One run on one output at a time."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from cosmos_curate.engine.storage import Store, failing
from cosmos_curate.errors import InputError

LOCK = "run.lock"


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold the output; on a local folder the lock ends with the process, however that ends.

    On an object store it is a file that says who runs; a killed run leaves it, and a person has to remove it. There two
    runs that start within the same moment can both get it.

    Raises:
        InputError: another run holds it.
        OutputError: the output cannot be written.
    """
    with _locked_folder(store) if store.is_local else _locked_store(store):
        yield


def _owner() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def _locked_folder(store: Store) -> Iterator[None]:
    path = store.path(LOCK)
    with failing(store, LOCK):
        os.makedirs(store.root, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _lock(file):
            owner = os.read(file, 200).decode("utf-8", "replace").strip() or "another process"
            raise InputError(f"{store.url} is in use by {owner}: wait for it, or give another output")
        try:
            with failing(store, LOCK):
                os.ftruncate(file, 0)
                os.write(file, _owner().encode())
            yield
        finally:
            with suppress(FileNotFoundError):  # someone may have removed the lock, or the whole output
                os.unlink(path)
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The holder before may have removed the file between our opening and our locking it.
    return os.fstat(file).st_nlink > 0


@contextmanager
def _locked_store(store: Store) -> Iterator[None]:
    mine = json.dumps([_owner(), datetime.now(UTC).isoformat(timespec="seconds"), os.urandom(8).hex()]).encode()
    with failing(store, LOCK):
        taken = store.exists(LOCK)
    if taken:
        owner, since, _ = _read(store)
        path = f"{store.url.rstrip('/')}/{LOCK}"
        raise InputError(f"{store.url} is in use by {owner} since {since}; if that run is dead, remove {path}")
    store.write_whole(LOCK, mine)
    if store.read_bytes(LOCK) != mine:
        raise InputError(f"{store.url} was taken by {_read(store)[0]} in the same moment")
    try:
        yield
    finally:
        if store.exists(LOCK) and store.read_bytes(LOCK) == mine:
            store.remove(LOCK)


def _read(store: Store) -> tuple[str, str, str]:
    try:
        owner, since, token = json.loads(store.read_bytes(LOCK))
        return str(owner), str(since), str(token)
    except (ValueError, TypeError):
        return "another process", "a time unknown", ""
