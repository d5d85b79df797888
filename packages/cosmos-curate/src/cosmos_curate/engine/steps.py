"""Steps: what an executor runs. One takes an item and gives any number; stages that share a worker are one step."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from cosmos_curate.engine.attempts import attempt, placeless
from cosmos_curate.engine.keys import result_key
from cosmos_curate.engine.ledger import Ledger, Record
from cosmos_curate.engine.storage import Store
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.programs import programs_cpu_s
from cosmos_curate.stage import Columns, Item, Process, Resources, Stage


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What one stage did for one item.

    Args:
        stage: its name.
        reused: 1 where the ledger had the result.
        quarantined: 1 where the item was put aside by this stage.
        wall_s: seconds that it took.
        cpu_s: of the worker's own thread and the programs that it ran to their end; not of a library's threads.
        gpu_s: seconds for which it held a GPU, times the share of it.
        video_s: of the item.
    """

    stage: str
    items: int = 1
    reused: int = 0
    quarantined: int = 0
    wall_s: int | float = 0
    cpu_s: int | float = 0
    gpu_s: int | float = 0
    video_s: int | float = 0


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Items that came out, those in quarantine too (their column `quarantine` says why), and what was measured."""

    items: tuple[Item, ...] = ()
    measures: tuple[Measure, ...] = ()


Work = Callable[[Item], StepResult]
ONE_CORE = Resources()


@runtime_checkable
class Step(Protocol):
    """One worker's part of the pipeline; it must survive pickling, and the function it opens is one thread's.

    An error that the function raises ends the run: what is an item's own fault it turns into quarantine.
    """

    @property
    def name(self) -> str:
        """Unique in a pipeline."""
        ...

    @property
    def resources(self) -> Resources:
        """What one worker occupies."""
        ...

    @property
    def workers(self) -> int | None:
        """At most so many; None for as many as the resources allow."""
        ...

    def open(self) -> Work:
        """Return the function over items; called once a worker."""
        ...


def in_quarantine(item: Item) -> bool:
    """Whether the item was put aside; no step sees it any more, and it goes on to the end."""
    return item.columns.get("quarantine") is not None


def run_step(work: Work, item: Item) -> StepResult:
    """Return the step's result, or the item alone if it is in quarantine: what every executor calls."""
    return StepResult(items=(item,)) if in_quarantine(item) else work(item)


def put_aside(item: Item, reason: str) -> Item:
    """Return the item in quarantine, with what it has so far."""
    return replace(item, columns={**item.columns, "quarantine": reason})


class Meter:
    """Seconds of wall, and of the thread with its programs, between entering and leaving, as a Measure."""

    def __init__(self, stage: str, resources: Resources, item: Item) -> None:
        length = item.columns.get("duration_s", item.columns.get("source_duration_s"))
        video_s = float(length) if isinstance(length, int | float) else 0.0
        self.stage, self.gpus, self.video_s = stage, resources.gpus, video_s
        self.wall_s, self.cpu_s = -time.perf_counter(), -_cpu_s()

    def measure(self, record: Record | None = None, *, reused: bool = False, less: Measure | None = None) -> Measure:
        """Return what was measured since, without `less`, which was measured inside."""
        wall_s = self.wall_s + time.perf_counter() - (less.wall_s if less else 0)
        return Measure(
            stage=self.stage,
            reused=int(reused),
            quarantined=int(record is not None and record.quarantine is not None),
            wall_s=wall_s,
            cpu_s=self.cpu_s + _cpu_s() - (less.cpu_s if less else 0),
            gpu_s=wall_s * self.gpus,
            video_s=self.video_s,
        )


def _cpu_s() -> float:
    return time.thread_time() + programs_cpu_s()


def remember(
    ledger: Ledger,
    item: Item,
    name: str,
    key: str,
    compute: Callable[[], Columns],
    *,
    resources: Resources = ONE_CORE,
    attempts: int = 3,
    retry: bool = False,
    valid: Callable[[Columns], bool] = lambda columns: True,
    shown: Callable[[str], str] = str,
) -> tuple[Record, Measure]:
    """Return the item's result of this key from the ledger, or compute it and record it: for steps of their own.

    Args:
        name: of the stage, for reasons and measures.
        key: hash of everything that the result depends on.
        compute: writes its files first, whole, under names that the result decides; then returns columns.
        retry: whether to compute again what the ledger has in quarantine.
        valid: whether a recorded result still holds; its files may have been removed.
        shown: as `attempt` takes it.

    Raises:
        OutputError: the output cannot be written.
    """
    meter = Meter(name, resources, item)
    record = ledger.read(item.id).get(key)
    if record is not None and not (retry and record.quarantine) and (record.quarantine or valid(record.columns)):
        return record, meter.measure(record, reused=True)
    record = attempt(name, compute, attempts=attempts, shown=shown)
    ledger.write(item.id, {key: record})
    return record, meter.measure(record)


def read_frames(path: str, samplings: Sequence[Sampling]) -> Mapping[Sampling, Frames]:
    """Decode once for all samplings."""
    from cosmos_curate.media.reading import read_samplings

    return read_samplings(path, samplings)


Read = Callable[[str, Sequence[Sampling]], Mapping[Sampling, Frames]]


@dataclass(frozen=True, kw_only=True)
class StageStep:
    """Stages one behind another in one worker: what the ledger has is not run; one decoding serves the rest.

    A stage that gives up on an item puts it in quarantine, and later stages do not see it. Columns that are arrays
    stay in the ledger unless `carry` names them: embeddings do not travel.

    Args:
        stages: with equal resources and `over`, in order.
        keys: for each stage what its result depends on beside the item; see `keys.keys_of`.
        inputs: address of the folder in which an item's path is a name.
        output: address of the folder with the ledger.
        work: local folder for copies of remote files.
        carry: arrays that later steps read.
        attempts: for each stage of each item, before quarantine.
        retry: whether to run again what the ledger has in quarantine.
        read: decodes; `(path, samplings) -> frames by sampling`.
    """

    name: str
    stages: tuple[Stage, ...]
    keys: tuple[str, ...]
    inputs: str
    output: str
    work: str
    carry: frozenset[str] = frozenset()
    attempts: int = 3
    retry: bool = False
    workers: int | None = None
    read: Read = field(default=read_frames)

    @property
    def resources(self) -> Resources:
        """What its worker occupies: what each of its stages does."""
        return self.stages[0].resources

    def open(self) -> Work:
        """Return the function over items; models are loaded when the first item needs them."""
        return _Worker(self).run


class _Worker:
    def __init__(self, step: StageStep) -> None:
        self.step = step
        self.inputs = Store(step.inputs)
        self.ledger = Ledger(Store(step.output))
        self.opened: dict[str, Process] = {}
        self.shown = partial(placeless, inputs=self.inputs.root, work=step.work)

    def run(self, item: Item) -> StepResult:
        step = self.step
        known = self.ledger.read(item.id)
        if step.retry:
            known = {key: record for key, record in known.items() if record.quarantine is None}
        keys = [result_key(item.id, key) for key in step.keys]
        missing = [stage for stage, key in zip(step.stages, keys, strict=True) if key not in known]
        new: dict[str, Record] = {}
        measures: list[Measure] = []
        columns = dict(item.columns)
        reason: str | None = None
        with ExitStack() as stack:
            file = _File(step, self.inputs, item, missing, stack)
            for stage, key in zip(step.stages, keys, strict=True):
                record = known.get(key)
                meter = Meter(stage.name, step.resources, replace(item, columns=columns))
                if record is not None:
                    measures.append(meter.measure(record, reused=True))
                else:
                    call = partial(file.run, stage, self._process(stage), replace(item, columns=columns))
                    new[key] = record = attempt(stage.name, call, attempts=step.attempts, shown=self.shown)
                    decoding = file.take_decoding()
                    measures += [meter.measure(record, less=decoding), *([decoding] if decoding else [])]
                reason = record.quarantine
                if reason is not None:
                    break
                columns = {**columns, **record.columns}
        if new:
            self.ledger.write(item.id, new)
        kept = {name: v for name, v in columns.items() if not isinstance(v, np.ndarray) or name in step.carry}
        done = replace(item, columns=kept)
        return StepResult(items=(done if reason is None else put_aside(done, reason),), measures=tuple(measures))

    def _process(self, stage: Stage) -> Process:
        if stage.name not in self.opened:
            self.opened[stage.name] = stage.open()
        return self.opened[stage.name]


class _File:
    """An item's file on this machine and its frames, each fetched when the first stage needs it."""

    def __init__(self, step: StageStep, inputs: Store, item: Item, stages: Sequence[Stage], stack: ExitStack) -> None:
        self.step, self.inputs, self.item, self.stack = step, inputs, item, stack
        self.samplings = tuple(dict.fromkeys(sampling for stage in stages for sampling in stage.samplings))
        self.path: str | None = None
        self.frames: Mapping[Sampling, Frames] | None = None
        self.decoding: Measure | None = None

    def run(self, stage: Stage, process: Process, item: Item) -> Columns:
        if self.path is None:
            self.path = self.stack.enter_context(self.inputs.local(self.item.path, self.step.work))
        if stage.samplings and self.frames is None:
            meter = Meter("decode", self.step.resources, item)
            self.frames = self.step.read(self.path, self.samplings)
            self.decoding = meter.measure()
        wanted = {sampling: (self.frames or {})[sampling] for sampling in stage.samplings}
        columns = process(replace(item, path=self.path), wanted)
        if set(columns) != set(stage.writes):
            raise TypeError(f"the stage declares {sorted(stage.writes)} and wrote {sorted(columns)}")
        return columns

    def take_decoding(self) -> Measure | None:
        taken, self.decoding = self.decoding, None
        return taken
