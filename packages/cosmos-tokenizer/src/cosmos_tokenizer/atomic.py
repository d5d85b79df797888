"""Whole files or none: bytes go to a file beside the target, which then takes the target's name in one step."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from cosmos_tokenizer.errors import InputError


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Name under which the block writes what takes the name `path` when the block ends; its folder is made if missing.

    Where the block fails, for a full disk or an interrupt too, what stood under `path` before stands there still and
    nothing else is left. A path that is not a plain file (a pipe, a device) gets the bytes at the end, and is never
    replaced.

    Raises:
        OSError: with `filename` set to `path`, whatever call on the file failed.
    """
    target = Path(os.path.realpath(path))
    with _naming(path):
        if target.is_dir():
            raise IsADirectoryError(21, "is a folder, and a file was to be written", str(path))
        plain = target.is_file() or not target.exists()
        if plain:
            target.parent.mkdir(parents=True, exist_ok=True)
    if not plain:
        with TemporaryDirectory() as folder:
            made = Path(folder) / "file"
            with _naming(path, made):
                yield made
            with _naming(path), made.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    beside = partial(target)
    try:
        with _naming(path, beside):
            yield beside
        with _naming(path):
            os.replace(beside, target)
    finally:
        with _naming(path):
            beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Name of a folder for the block to fill, which takes the name `path` when the block ends; its parent is made.

    Where the block fails, nothing is left.

    Raises:
        InputError: there is something of that name, and it is no empty folder.
        OSError: a call on the folder failed.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"output {path} exists: name a new or an empty folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = partial(target)
    try:
        beside.mkdir()
        yield beside
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_whole(path: Path | str, data: bytes | memoryview) -> None:
    """Write `data` under `path` as `whole_file` does, with the same errors."""
    with whole_file(path) as beside:
        beside.write_bytes(data)


def partial(target: Path) -> Path:
    """Return a name beside `target` for what is not whole yet: hidden, this process's own, and short for any name."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".{digest}.{os.getpid()}.partial")


@contextmanager
def _naming(path: Path | str, beside: Path | None = None) -> Iterator[None]:
    """Let errors name `path`: all of them, or where `beside` is given, those that name it or nothing."""
    try:
        yield
    except OSError as error:
        if beside is not None and error.filename not in (None, str(beside)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
