"""First step: a video's id is the sha256 of its bytes, so that neither its name nor its place matters."""

import hashlib
from dataclasses import dataclass, replace

from cosmos_curate.engine.steps import Measure, Meter, StepResult, Work, put_aside
from cosmos_curate.engine.storage import FULL, OutputError, Store
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Item, Resources

NAME = "identify"


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
                found = replace(item, id=hashlib.file_digest(file, "sha256").hexdigest())
        except InputError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise OutputError(f"{NAME}: {error.strerror}; free some space and run again") from error
            reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
            found = put_aside(item, f"{NAME}: {' '.join(reason.split())}"[:500])
        measured: Measure = meter.measure()
        return StepResult(items=(found,), measures=(measured,))


def unknown(path: str) -> Item:
    """Return a video that was only listed."""
    return Item(id=hashlib.sha256(f"name {path}".encode("utf-8", "surrogateescape")).hexdigest(), path=path)
