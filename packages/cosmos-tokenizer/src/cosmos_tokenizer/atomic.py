"""Whole files or none: bytes go to a file beside the target, which then takes the target's name in one step."""

import hashlib
import os
from pathlib import Path


def write_whole(path: Path | str, data: bytes | memoryview) -> None:
    """Write `data` under `path`, making its folder where missing.

    On any failure, a full disk or an interrupt included, what stood under `path` before stands there still and nothing
    else is left. A path that is not a plain file (a pipe, a device) is written to directly, never replaced.

    Raises:
        OSError: with `filename` set to `path`, whatever call failed.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise IsADirectoryError(21, "is a folder, and a file was to be written", str(path))
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = partial(target)
        try:
            beside.write_bytes(data)
            os.replace(beside, target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def partial(target: Path) -> Path:
    """Return a name beside `target` for what is not whole yet: hidden, this process's own, and short for any name."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".{digest}.{os.getpid()}.partial")
