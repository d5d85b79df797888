"""Files of a run that cannot be read, written or deleted: what is said names them, and says no more than is so."""

import errno
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch.utils.tensorboard.writer import SummaryWriter

from cosmos_posttrain import checkpoints, train

FIELDS: dict[str, Any] = {"steps": 2, "optimizer": {"name": "adamw", "rate": 0.01}}


def silent(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "Input/output error", "step-1/__0_0.distcp"), r"Input/output error: '.*__0_0\.distcp'"),
        (RuntimeError("not enough memory"), "^not enough memory$"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_not_that_of_another_network(
    error: Exception, said: str, line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = line.config_of(FIELDS | {"steps": 1})
    train(line.Line(), line.PointStream(), config, tmp_path, say=silent)

    def unreadable(reader: object, *given: object) -> None:
        raise error

    monkeypatch.setattr(checkpoints.FileSystemReader, "read_data", unreadable)
    with pytest.raises(type(error), match=said):
        train(line.Line(), line.PointStream(), config, tmp_path, resume=True, say=silent)


def test_old_checkpoints_that_cannot_be_deleted_do_not_deny_the_new_one(
    line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def busy(path: Path, **options: Any) -> None:
        if path.name == "step-1" and path.exists():
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", busy)
    config = line.config_of(FIELDS | {"steps": 2, "save_every": 1, "keep": 1})
    with pytest.raises(
        OSError, match=r"busy: step-2 is written, and those before it cannot be deleted: '.*checkpoints'"
    ):
        train(line.Line(), line.PointStream(), config, tmp_path, say=silent)
    assert (tmp_path / "checkpoints/step-2/whole.json").exists()


def full(*given: object) -> None:
    """What TensorBoard's writer does on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("method", ["add_scalar", "add_image", "close"])
def test_a_disk_too_full_for_tensorboard_is_named(
    method: str, line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SummaryWriter, method, lambda *given, **options: full())
    with pytest.raises(OSError, match=r"No space left on device: '.*/tensorboard'"):
        train(line.Line(), line.PointStream(), line.config_of(FIELDS | {"steps": 1}), tmp_path, say=silent)


def test_the_end_of_the_records_does_not_hide_the_error_that_ended_the_run(
    line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SummaryWriter, "close", full)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/metrics\.jsonl'"):
        train(line.Line(), line.PointStream(), line.config_of(FIELDS), tmp_path, say=silent)
