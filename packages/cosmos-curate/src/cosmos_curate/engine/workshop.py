"""Folders for temporary files that go away, even when the run that made them was killed: the next one removes them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cosmos_curate.engine.storage import Store, failing

PREFIX = "curate-"
HELD = ".held"


@contextmanager
def scratch(parent: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Give a new folder of this process and remove it afterwards; folders of dead processes beside it go first.

    Args:
        parent: made if it is not there and removed if it is empty; None for the system's folder of temporary files.

    Raises:
        OSError: it cannot be made.
    """
    top = Path(parent) if parent is not None else Path(tempfile.gettempdir())
    top.mkdir(parents=True, exist_ok=True)
    try:
        for left in sorted(top.glob(f"{PREFIX}*/{HELD}")):
            file = _held(left)
            if file is not None:
                shutil.rmtree(left.parent, ignore_errors=True)
                os.close(file)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=top))
        file = _held(folder / HELD, os.O_CREAT)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if file is not None:
                os.close(file)
    finally:
        if parent is not None:
            with suppress(OSError):
                top.rmdir()


@contextmanager
def workshop(output: Store) -> Iterator[str]:
    """Give a run's folder for files on their way: `work` in a local output, else among the temporary files.

    What a killed run left half-written in the output goes first; the caller holds the output's lock.

    Raises:
        OutputError: it cannot be made.
    """
    with failing(output, "work"), ExitStack() as stack:
        output.sweep()
        folder = stack.enter_context(scratch(os.path.join(output.root, "work") if output.is_local else None))
        stack = stack.pop_all()
    with stack:
        yield str(folder)


def _held(path: Path, flags: int = 0) -> int | None:
    """Return the file opened and locked by this process, or None if another holds it or it cannot be had."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
