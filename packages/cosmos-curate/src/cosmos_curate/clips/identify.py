"""First step: a video's id is the sha256 of its bytes, so that neither its name nor its place matters."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from cosmos_curate.engine.steps import Measure, Meter, StepResult, Work, put_aside
from cosmos_curate.engine.storage import FULL, OutputError, Store
from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.stage import Columns, Item, Process, Resources, Stage

NAME = "identify"
STATE = "source_state"
"""Column of a video on this machine: bytes and time of change when it was read; see `check_same`."""
CHANGED = "was changed while the run was at work on it; run again when it is whole"


@dataclass(frozen=True, kw_only=True)
class IdentifyStep:
    """Reads every byte once; an unreadable file is put aside under an id made of its name.

    Args:
        inputs: address of the folder of videos.
        work: local folder for copies of remote files.
    """

    inputs: str
    work: str
    name: str = NAME
    resources: Resources = Resources(cpus=1)
    workers: int | None = None

    def open(self) -> Work:
        """Return the function over videos, of which only the path is known."""
        return _Identify(self).run


class _Identify:
    def __init__(self, step: IdentifyStep) -> None:
        self.step, self.store = step, Store(step.inputs)

    def run(self, item: Item) -> StepResult:
        meter = Meter(NAME, self.step.resources, item)
        try:
            with self.store.local(item.path, self.step.work) as path, open(path, "rb") as file:
                before = _state(path)
                found = replace(item, id=hashlib.file_digest(file, "sha256").hexdigest())
                if _state(path) != before:
                    found = put_aside(item, f"{NAME}: {CHANGED}")
                elif self.store.is_local:
                    found = replace(found, columns={**item.columns, STATE: before})
        except InputError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise OutputError(f"{NAME}: {error.strerror}; free some space and run again") from error
            reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
            found = put_aside(item, f"{NAME}: {' '.join(reason.split())}"[:500])
        measured: Measure = meter.measure()
        return StepResult(items=(found,), measures=(measured,))


def same(stage: Stage) -> Stage:
    """Return a stage over videos that has no result for one that is no longer what its id says."""
    return replace(stage, open=partial(_open, stage))


def check_same(path: str, sha256: object, state: object) -> None:
    """Make sure that a video is still the one that was identified; its bytes are read only if its state differs.

    Raises:
        Unusable: it has other bytes.
    """
    if state is not None and state != _state(path):
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise Unusable(CHANGED)


def _open(stage: Stage) -> Process:
    process = stage.open()

    def checked(item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
        columns = process(item, frames)
        check_same(item.path, item.id, item.columns.get(STATE))
        return columns

    return checked


def _state(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def unknown(path: str) -> Item:
    """Return a video that was only listed."""
    return Item(id=hashlib.sha256(f"name {path}".encode("utf-8", "surrogateescape")).hexdigest(), path=path)
