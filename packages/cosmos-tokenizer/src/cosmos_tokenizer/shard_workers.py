"""Shards made by several processes: each loads the model once and takes the next shard when it is done with one."""

import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

import torch

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.shard_plan import Shard
from cosmos_tokenizer.shard_writer import Event, Recipe, open_encoder, write_shard


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, as every worker does: sums in another order would give other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_in_processes(folder: Path, shards: Iterable[Shard], recipe: Recipe, workers: int) -> Iterator[Event]:
    """Write shards by so many processes, and tell what each tells as it comes.

    A process that has lost this one ends after the clip that it is at.

    Raises:
        InputError: a process was killed.
        Exception: what was raised in one.
    """
    context = get_context("spawn")
    waiting = deque(shards)
    running: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(min(workers, len(waiting))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, folder, recipe), daemon=True)
            process.start()
            theirs.close()
            running[ours] = process
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                with _alive(running[connection]):
                    message = connection.recv()
                    if message is None and waiting:
                        connection.send(waiting.popleft())
                        continue
                if isinstance(message, BaseException):
                    raise message
                if message is None:
                    connection.close()
                    running.pop(connection).join()
                else:
                    yield message
    finally:
        for connection, process in running.items():
            process.terminate()
            process.join()
            connection.close()


@contextmanager
def _alive(process: BaseProcess) -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        process.join()
        raise InputError(
            f"a worker was killed (exit code {process.exitcode}), as when memory runs out; what is finished is kept: "
            "run it again with fewer --workers"
        ) from error


def _work(parent: Connection, folder: Path, recipe: Recipe) -> None:
    """Send None whenever free, and take a shard, until the parent hangs up or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts all of them; the parent ends the rest
    signal.signal(signal.SIGTERM, _leave)
    sys.stderr = sys.stdout
    try:
        with one_thread():
            encoder = open_encoder(recipe)
            parent.send(None)
            while True:
                for event in write_shard(folder, parent.recv(), encoder):
                    parent.send(event)
                parent.send(None)
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        error.add_note(traceback.format_exc())
        parent.send(error)


def _leave(*_: object) -> NoReturn:
    """Unwind, so that what is half-written goes."""
    raise SystemExit(1)
