"""Checkpoints of a run: written in the background, whole or not at all, and read back by any number of processes.

`checkpoints/step-N` is a folder of ``torch.distributed.checkpoint`` with two files beside the tensors: `progress.json`,
what is no tensor, and `whole.json`, the size and SHA-256 of every file. It is written as `step-N.partial`, and gets its
name when every process has finished its part.
"""

import hashlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from json import loads
from pathlib import Path
from threading import Thread
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.staging import BlockingAsyncStager

from cosmos_posttrain.parallel import Parallel
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.jsontext import to_json

_PROGRESS, _WHOLE = "progress.json", "whole.json"
_POLL_SECONDS = 0.05


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
        partial = self.folder / f"step-{step}.partial"
        partial.mkdir(parents=True, exist_ok=True)
        copied = BlockingAsyncStager().stage(dict(tensors))
        self._writing = Thread(target=self._write, args=(step, partial, copied, dict(progress)), name="checkpoint")
        self._writing.start()

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
        tensors: Callable[[dict[str, Any]], Mapping[str, Tensor]],
        say: Callable[[str], None],
    ) -> dict[str, Any] | None:
        """Read the newest whole checkpoint into tensors, in place, and return its progress; None if there is none.

        Args:
            tensors: gives, for the progress of that checkpoint, tensors by name, of the shapes that were saved, or
                raises if it is not of this run; parts of tensors get their parts.
            say: takes a line for each damaged checkpoint.

        Raises:
            InputError: its tensors are others than these.
        """
        found = self._parallel.first(self._newest_whole(say) if self._parallel.rank == 0 else None)
        if found is None:
            return None
        path = self.folder / found
        progress = loads((path / _PROGRESS).read_bytes())
        into = dict(tensors(progress))
        try:
            with one_process_is_fine():
                state_dict_loader.load(into, storage_reader=FileSystemReader(path), process_group=self._group)
        except (CheckpointException, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            what = "its tensors are those of another network or optimizer"
            raise InputError(f"{path}: {what} ({reason}); name another folder") from error
        return progress

    def _write(self, step: int, partial: Path, tensors: dict[str, Any], progress: dict[str, Any]) -> None:
        rank, world = self._parallel.rank, self._parallel.world
        try:
            writer = FileSystemWriter(partial, single_file_per_rank=True, overwrite=True)
            state_dict_saver.save(tensors, storage_writer=writer, process_group=self._group)
            sums = {path.name: _sum(path) for path in partial.glob(f"__{rank}_*")}
            write_whole(partial / f"rank-{rank}.json", to_json(sums).encode())
            if rank == 0:
                self._finish(step, partial, world, progress)
        except BaseException as error:
            self._failure = _as_os_error(error)
            if rank == 0:
                shutil.rmtree(partial, ignore_errors=True)

    def _finish(self, step: int, partial: Path, world: int, progress: dict[str, Any]) -> None:
        parts = [partial / f"rank-{rank}.json" for rank in range(world)]
        while not all(part.exists() for part in parts):
            time.sleep(_POLL_SECONDS)
        write_whole(partial / _PROGRESS, to_json(progress).encode())
        sums = {name: value for part in parts for name, value in loads(part.read_bytes()).items()}
        sums |= {path.name: _sum(path) for path in (partial / ".metadata", partial / _PROGRESS)}
        for part in parts:
            part.unlink()
        write_whole(partial / _WHOLE, to_json(sums).encode())
        target = self.folder / f"step-{step}"
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
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
            path.rename(path.with_name(f"damaged-{path.name}"))
        return None

    def _steps(self) -> list[int]:
        names = [path.name.removeprefix("step-") for path in self.folder.glob("step-*")]
        return sorted(int(name) for name in names if name.isdecimal())


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


def _as_os_error(error: BaseException) -> BaseException:
    """The full disk or the like that is behind an error of ``torch.distributed.checkpoint``."""
    if isinstance(error, CheckpointException):
        causes = [cause[0] for cause in error.failures.values()]
        return next((cause for cause in causes if isinstance(cause, OSError)), error)
    return error


@contextmanager
def one_process_is_fine() -> Iterator[None]:
    """Inside, ``torch.distributed.checkpoint`` does not warn that it runs in one process, in this thread or another."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
