"""Checkpoints of a run: written in the background, whole or not at all, and read back by any number of processes.

`checkpoints/step-N` is a folder of ``torch.distributed.checkpoint`` with two files beside the tensors: `progress.json`,
what is no tensor, and `whole.json`, the size and SHA-256 of every file. It is written as `step-N.partial`, and gets its
name when every process has finished its part.
"""

import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from json import loads
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from cosmos_posttrain.parallel import Parallel
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.jsontext import to_json

T = TypeVar("T")

_PROGRESS, _WHOLE = "progress.json", "whole.json"


class Checkpoints:
    """The checkpoints of one run, of which the newest ``kept`` stay."""

    def __init__(self, folder: Path, parallel: Parallel, *, kept: int = 2) -> None:
        self.folder = folder
        self._parallel = parallel
        self._kept = kept
        self._writing: Thread | None = None
        self._failure: BaseException | None = None
        # Its own group: what a background thread sends must not mix with what the training sends.
        group = dist.new_group(backend="gloo") if parallel.world > 1 else None
        self._group = group if isinstance(group, ProcessGroup) else None

    def exist(self) -> bool:
        """Whether there is any, whole or not."""
        return any(self.folder.glob("step-*"))

    def save(self, step: int, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Copy the state now and write it in the background; waits for the one before.

        Raises:
            OSError: the one before could not be written. What was saved earlier is still there.
        """
        self.wait()
        copied = BlockingAsyncStager().stage(dict(tensors))
        self._writing = Thread(target=self._write, args=(step, copied, dict(progress)), name="checkpoint")
        self._writing.start()

    def poll(self) -> None:
        """See, without waiting, whether the checkpoint that is being written has failed; every process must ask.

        Raises:
            OSError: it could not be written, which all processes are told by the same call.
        """
        if self._writing is None:
            return
        mine = {"writing": self._writing.is_alive(), "failed": self._failure is not None}
        told = self._parallel.mean({name: torch.tensor(float(value)) for name, value in mine.items()})
        if told["failed"] or not told["writing"]:
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            OSError: it could not be written.
        """
        self.close()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self) -> None:
        """Let the checkpoint that is being written come to its end, good or bad."""
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def restore(
        self,
        tensors: Callable[[dict[str, Any], frozenset[str]], Mapping[str, Tensor]],
        say: Callable[[str], None],
    ) -> dict[str, Any] | None:
        """Read the newest whole checkpoint into tensors, in place, and return its progress; None if there is none.

        Args:
            tensors: takes the progress and the names of the tensors that were saved, and gives the tensors of those
                names to read into, of the shapes that were saved, or raises if the checkpoint is not of this run; parts
                of tensors get their parts.
            say: takes a line for each damaged checkpoint.

        Raises:
            InputError: its tensors are others than these.
            OSError: it cannot be read.
        """
        found = self._parallel.first(self._newest_whole(say) if self._parallel.rank == 0 else None)
        if found is None:
            return None
        path = self.folder / found
        progress = loads((path / _PROGRESS).read_bytes())
        metadata = FileSystemReader(path).read_metadata().state_dict_metadata
        saved = frozenset(metadata)
        wanted = dict(tensors(progress, saved))
        unlike = "its tensors are those of another network or optimizer"
        if lacking := wanted.keys() - saved:
            raise InputError(f"{path}: {unlike} (there is no {min(lacking)}); name another folder")
        if more := saved - wanted.keys():
            raise InputError(f"{path}: {unlike} (there is {min(more)} too); name another folder")
        for name, value in wanted.items():
            size = getattr(metadata[name], "size", None)
            if size != value.shape:
                reason = f"{name} has shape {None if size is None else tuple(size)}, here {tuple(value.shape)}"
                raise InputError(f"{path}: {unlike} ({reason}); name another folder")
        with one_process_is_fine(), _causes():
            state_dict_loader.load(wanted, storage_reader=FileSystemReader(path), process_group=self._group)
        return progress

    def _write(self, step: int, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
        target = self.folder / f"step-{step}"
        partial = target.with_name(f"{target.name}.partial")
        first = self._parallel.rank == 0
        try:
            parts = self._together(lambda: self._write_part(partial, tensors))
            sums = {name: value for part in parts for name, value in part.items()}
            self._together(lambda: self._finish(partial, target, progress, sums) if first else None)
        except BaseException as error:
            if first:
                shutil.rmtree(partial, ignore_errors=True)
            self._failure = _naming(target, error, "it is not written, and those before it are still there")
            return
        try:
            self._together(lambda: self._delete_old() if first else None)
        except BaseException as error:
            self._failure = _naming(
                self.folder, error, f"{target.name} is written, and those before it cannot be deleted"
            )

    def _together(self, do: Callable[[], T]) -> list[T]:
        """What ``do`` gives in each process; where it fails in one, it fails in all."""
        if self._group is None:
            return [do()]
        mine: tuple[list[T], BaseException | None]
        try:
            mine = [do()], None
        except BaseException as error:
            failure = _cause(error)
            # Others can be told of any OSError, but not of every error there may be.
            mine = [], failure if isinstance(failure, OSError) else RuntimeError(repr(failure))
        told = [mine] * self._parallel.world
        dist.all_gather_object(told, mine, group=self._group)
        for _, failure in told:
            if failure is not None:
                raise failure
        return [value for values, _ in told for value in values]

    def _write_part(self, partial: Path, tensors: dict[str, Any]) -> dict[str, str]:
        """Write what this process holds, and return the sums of its files."""
        state_dict_saver.save(tensors, storage_writer=_Writer(partial), process_group=self._group)
        return {path.name: _sum(path) for path in partial.glob(f"__{self._parallel.rank}_*")}

    def _finish(self, partial: Path, target: Path, progress: dict[str, Any], sums: dict[str, str]) -> None:
        write_whole(partial / _PROGRESS, to_json(progress).encode())
        sums |= {path.name: _sum(path) for path in (partial / ".metadata", partial / _PROGRESS)}
        write_whole(partial / _WHOLE, to_json(sums).encode())
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)

    def _delete_old(self) -> None:
        for old in self._steps()[: -self._kept]:
            shutil.rmtree(self.folder / f"step-{old}")

    def _newest_whole(self, say: Callable[[str], None]) -> str | None:
        for partial in self.folder.glob("step-*.partial"):
            shutil.rmtree(partial)
        for step in reversed(self._steps()):
            path = self.folder / f"step-{step}"
            reason = _damage(path)
            if reason is None:
                return path.name
            say(f"{path}: is damaged ({reason}); the one before it is taken")
            path.rename(_unused(path.with_name(f"damaged-{path.name}")))
        return None

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix("step-") for path in self.folder.glob("step-*")]
        return sorted(int(name) for name in names if name.isdecimal())


def _unused(path: Path) -> Path:
    """That name, or the first of NAME-2, NAME-3, ... that nothing has."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _damage(path: Path) -> str | None:
    try:
        sums = loads((path / _WHOLE).read_bytes())
        for name, expected in sums.items():
            if _sum(path / name) != expected:
                return f"{name} is not what was written"
    except OSError as error:
        return f"{Path(error.filename or path).name}: {error.strerror}"
    except (ValueError, AttributeError):
        return f"{_WHOLE} is unreadable"
    return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return f"{path.stat().st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"


class _Writer(FileSystemWriter):
    """Fails with the error of the file system, while it is still known: no other process is told what is behind one."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        with _causes():
            return super().write_data(plan, planner)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        with _causes():
            super().finish(metadata, results)


@contextmanager
def _causes() -> Iterator[None]:
    try:
        yield
    except (Exception, CheckpointException) as error:  # which is no Exception
        cause = _cause(error)
        if cause is error:
            raise
        raise cause from None


def _cause(error: BaseException) -> BaseException:
    """The full disk or the like that is behind an error; the error itself if nothing of the kind is."""
    if isinstance(error, CheckpointException):
        causes = [cause[0] for cause in error.failures.values()]
        return next((cause for cause in causes if isinstance(cause, OSError)), causes[0])
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, OSError):
        # ``torch.save`` to a full disk complains of its own format, and has met the error on the way.
        behind = behind.__cause__ or behind.__context__
    return behind or error


def _naming(path: Path, error: BaseException, outcome: str) -> BaseException:
    cause = _cause(error)
    if not isinstance(cause, OSError):
        return cause
    return OSError(cause.errno, f"{cause.strerror or cause}: {outcome}", str(path))


@contextmanager
def one_process_is_fine() -> Iterator[None]:
    """Inside, ``torch.distributed.checkpoint`` does not warn that it runs in one process, in this thread or another."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
