"""Whole files or none."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cosmos_tokenizer.atomic import write_whole


@contextmanager
def small_files_only() -> Iterator[None]:
    """Let no file grow past 4 kB, as a full disk would; no fixture, since pytest's own report may go to a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "c.bin"
    write_whole(target, b"all of it")
    assert target.read_bytes() == b"all of it"
    assert os.listdir(target.parent) == ["c.bin"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "old.bin"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="too large") as caught, small_files_only():
        write_whole(target, bytes(100_000))
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["old.bin"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x.bin", b"data")
    assert os.listdir(tmp_path) == []


def test_a_link_keeps_pointing_at_the_file_that_was_written(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to("real.bin")
    write_whole(tmp_path / "link.bin", b"new")
    assert (tmp_path / "real.bin").read_bytes() == b"new"
    assert (tmp_path / "link.bin").is_symlink()


def test_a_device_is_written_to_and_never_replaced() -> None:
    with pytest.raises(OSError, match="No space") as caught:
        write_whole("/dev/full", b"data")
    assert caught.value.errno == errno.ENOSPC
    assert Path("/dev/full").is_char_device()


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(tmp_path, b"data")
    assert caught.value.filename == str(tmp_path)


def test_a_very_long_name_is_a_plain_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        write_whole(tmp_path / ("n" * 300), b"data")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert os.listdir(tmp_path) == []
