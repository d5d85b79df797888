"""An endless stream of batches out of a source, decoded in worker processes, that can go on from any position.

What comes is a function of the samples, the configuration and the position: not of how many processes share the
batches, how many workers decode them, or where the stream was stopped and begun again.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process
from threading import Thread, current_thread, main_thread
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch.utils.data import DataLoader, Dataset

from cosmos_posttrain.data.batch import Batch
from cosmos_posttrain.data.buckets import Bucket, sort_samples
from cosmos_posttrain.data.config import StreamConfig
from cosmos_posttrain.data.plan import Draw, Position, make_plan
from cosmos_posttrain.data.source import Source
from cosmos_posttrain.data.views import View, take_view
from cosmos_tokenizer import InputError

# Forking a process with threads, as of torch or FFmpeg, can leave a lock held for ever in the child.
_START = "spawn" if sys.platform == "win32" else "forkserver"


class Stream:
    """Batches of one process, for `next`; it never ends.

    A sample that cannot be read is told once, counted, and replaced by the next one of its bucket.
    """

    def __init__(
        self,
        source: Source,
        config: StreamConfig,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        say: Callable[[str], None] = print,
    ) -> None:
        """Look through the descriptions of all samples; nothing is decoded yet.

        Args:
            source: samples, as `open_source` gives them.
            config: what batches are made of.
            rank, world: this process among those that share each batch.
            workers: processes that decode; 0 for this one, when a batch is asked for.
            say: takes a line on samples that are left out, in the first process, or skipped, in the one that met them.

        Raises:
            InputError: no sample can be used, or the processes cannot share a batch evenly.
        """
        if not 0 <= rank < world or workers < 0:
            raise InputError(
                f"rank is {rank} of {world} with {workers} workers: give a rank below world, and workers >= 0"
            )
        self._say_once = say if rank == 0 else _silent
        found = sort_samples(source, config, self._say_once)
        self._plan = make_plan(found.buckets, config, world=world)
        self._digest = self._plan.digest(found.digest)
        self._reader = _Reader(source, config, found.buckets)
        self._rank, self._world, self._workers, self._say = rank, world, workers, say
        self._position = Position(epoch=0, batch=0)
        self._parts: Iterator[_Part] | None = None
        self._skipped = found.broken if rank == 0 else 0
        self._told: set[int] = set()

    def __next__(self) -> Batch:
        """Return this process's part of the next batch.

        Raises:
            InputError: no sample of a bucket can be read; or a worker was killed.
        """
        if self._parts is None:
            self._parts = self._begin()
        try:
            part = next(self._parts)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise InputError("a data worker was killed, as when memory runs out; use fewer workers") from error
        for index, reason in part.broken.items():
            if index not in self._told:
                self._told.add(index)
                self._say(f"skipped: {reason}")
        if part.failure is not None:
            raise InputError(part.failure)
        self._position = self._plan.after(self._position)
        frames_BTHWC = torch.from_numpy(part.frames)
        return Batch(
            video=rearrange(frames_BTHWC, "b t h w c -> b c t h w").contiguous().float().div_(127.5).sub_(1),
            keys=part.keys,
            seeds=part.seeds,
            texts=part.texts,
            rates=part.rates,
            skipped=self._skipped + len(self._told),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position behind the batches handed out so far, ready for JSON and the same in all processes."""
        return {"epoch": self._position.epoch, "batch": self._position.batch, "plan": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position; if it was one among other samples or settings, say so: the order is then another."""
        self.close()
        if state["plan"] != self._digest:
            self._say_once("the samples or their order are not those that the position was saved with; going on")
        self._position = Position(epoch=state["epoch"], batch=state["batch"])
        if self._position.batch >= self._plan.batches():
            self._position = Position(epoch=self._position.epoch + 1, batch=0)

    def close(self) -> None:
        """End the workers; `next` would start new ones."""
        self._parts = None

    def _begin(self) -> "Iterator[_Part]":
        draws = self._plan.walk(self._position, rank=self._rank, world=self._world)
        if not self._workers:
            return map(self._reader.__getitem__, draws)
        context = get_context(_START)
        if _START == "forkserver":
            context.set_forkserver_preload([__name__])  # torch takes seconds: imported once, not by every worker
            _start_server()
            # It forks when it has imported; a worker asked for before, by a trainer that is stopped meanwhile, would
            # find its queues gone.
            ready = context.Process(target=_nothing)
            ready.start()
            ready.join()
        loader = DataLoader(
            self._reader,
            batch_size=None,
            sampler=draws,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            worker_init_fn=_end_with_the_trainer,
            multiprocessing_context=context,
            # A seed is drawn from it; from torch's own generator, that would change the training's random numbers.
            generator=torch.Generator(),
        )
        return iter(loader)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """A part of a batch as a worker sends it: bytes, which go through a pipe; shared memory is scarce in containers."""

    frames: UInt8[np.ndarray, "B T H W 3"]
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    texts: tuple[str | None, ...]
    rates: tuple[float | None, ...]
    broken: dict[int, str]
    """Why samples, by their number in the source, could not be read."""
    failure: str | None = None


class _Reader(Dataset[_Part]):
    """Decodes the samples of a draw."""

    def __init__(self, source: Source, config: StreamConfig, buckets: tuple[Bucket, ...]) -> None:
        self._source, self._config, self._buckets = source, config, buckets

    def __getitem__(self, draw: Draw) -> _Part:
        bucket, broken = self._buckets[draw.bucket], dict[int, str]()
        views = [self._view(bucket, place, seed, broken) for place, seed in zip(draw.places, draw.seeds, strict=True)]
        read = [view for view in views if view is not None]
        failure = None
        if len(read) < len(views):
            failure = f"none of the {len(bucket.samples)} samples like it can be read: {next(iter(broken.values()))}"
            read = []
        shape = bucket.shape
        return _Part(
            frames=np.stack([view.frames for view in read])
            if read
            else np.empty((0, shape.frames, shape.height, shape.width, 3), np.uint8),
            keys=tuple(view.key for view in read),
            seeds=draw.seeds,
            texts=tuple(view.text for view in read),
            rates=tuple(view.rate for view in read),
            broken=broken,
            failure=failure,
        )

    def _view(self, bucket: Bucket, place: int, seed: int, broken: dict[int, str]) -> View | None:
        """Read the sample, or the next of the bucket that can be read; None where there is none."""
        count = len(bucket.samples)
        for index in (int(bucket.samples[(place + k) % count]) for k in range(count)):
            if index not in broken:
                try:
                    return take_view(self._source, index, seed, bucket.shape, self._config)
                except (InputError, OSError) as error:
                    broken[index] = " ".join(str(error).split())
        return None


def _silent(line: str) -> None:
    pass


def _nothing() -> None:
    pass


def _start_server() -> None:
    """Start what forks the workers, deaf to the Ctrl-C that a terminal sends to all: it would die with a traceback."""
    if current_thread() is not main_thread():  # which alone may handle signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_the_trainer(worker: int) -> None:
    """Leave when the process that trains says so, or is gone: a killed one cannot tell, and is not their parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all of them; the trainer ends the rest
    trainer = parent_process()
    if trainer is not None:
        Thread(target=lambda: (trainer.join(), os._exit(1)), daemon=True).start()


def _as_it_is(part: Any) -> Any:  # noqa: ANN401 (as torch has it)
    return part
