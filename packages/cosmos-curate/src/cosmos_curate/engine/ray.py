"""The executor on Ray Data: an actor pool a step, rows of one item each, streamed; arrays and frames never travel."""

import logging
import os
import secrets
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from cosmos_curate.engine.ledger import dumps, loads
from cosmos_curate.engine.local import check_resources
from cosmos_curate.engine.steps import Measure, Step, StepResult, Work, put_aside, run_step
from cosmos_curate.engine.storage import OutputError
from cosmos_curate.engine.workshop import scratch
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Item, Resources

LONGEST = 40
"""Bytes of a folder's path below which Ray's sockets still have names that Unix allows, which is 107 bytes."""

STORE_BYTES = 256 * 2**20
"""Of Ray's shared memory: rows are small."""

DEATHS = 2
"""Actors that an item may bring down before it is put aside; Ray itself would go on for ever."""


class RayExecutor:
    """Actors of Ray, on the cluster that RAY_ADDRESS names, else on this machine alone and only while it is open.

    On a cluster GPUs and cores are Ray's; `nvdec` and `network` count where its nodes declare resources of that name.

    Args:
        total: what this machine has; of no account on a cluster.

    Raises:
        InputError: Ray is not installed, or there is no cluster at RAY_ADDRESS.
    """

    def __init__(self, total: Resources) -> None:
        self._stack = ExitStack()
        self._folder: Path | None = None
        try:
            import ray.data
        except ImportError:
            raise InputError("executor ray needs Ray: pip install cosmos-curate[ray]") from None
        with warnings.catch_warnings():
            # Ray's settings warn of their own old names while they are made.
            warnings.simplefilter("ignore", DeprecationWarning)
            ray.data.DataContext.get_current()
        if not ray.is_initialized():
            self._start(total)
        there = ray.cluster_resources()
        self.kinds = {kind for kind in ("nvdec", "network") if kind in there}
        self.total = Resources(
            cpus=there.get("CPU", 1.0),
            gpus=there.get("GPU", 0.0),
            nvdec=there.get("nvdec", float("inf")),
            network=there.get("network", float("inf")),
        )

    def _start(self, total: Resources) -> None:
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if os.environ.get("RAY_ADDRESS"):
            try:
                ray.init(address="auto", **quiet)
            except ConnectionError as error:
                raise InputError(f"no Ray cluster at RAY_ADDRESS {os.environ['RAY_ADDRESS']}: {error}") from None
        else:
            parent = gettempdir() if len(os.fsencode(gettempdir())) < LONGEST - 16 else "/tmp"
            self._folder = self._stack.enter_context(scratch(parent))
            custom = {kind: float(getattr(total, kind)) for kind in ("nvdec", "network") if getattr(total, kind)}
            ray.init(
                address="local",
                num_cpus=int(total.cpus),
                num_gpus=int(total.gpus),
                resources=custom,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=str(self._folder),
                **quiet,
            )
        self._stack.callback(ray.shutdown)

    def stream(self, items: Iterable[Item], steps: Sequence[Step]) -> Iterator[StepResult]:
        """Yield results as they come; all items are taken at once. See `Executor`.

        Raises:
            InputError: a step wants what the cluster has none or not enough of, or what a step's function raised.
            OutputError: what a step's function raised.
            RuntimeError: any other error of a step's function, or an item that brings actors down.
        """
        check_resources(steps, self.total)
        return self._results([_row(item) for item in items], steps)

    def depths(self) -> dict[str, int]:
        """Return nothing: Ray keeps its queues to itself."""
        return {}

    def close(self) -> None:
        """Stop what it started and remove its temporary files; a cluster that was there stays."""
        self._stack.close()

    def _results(self, rows: list[dict[str, bytes]], steps: Sequence[Step]) -> Iterator[StepResult]:
        import ray.data

        if not rows:
            return
        asked = sum(step.resources.cpus for step in steps)
        share = min(1.0, self.total.cpus / asked) if asked else 1.0
        with _settings():
            data = ray.data.from_items(rows, override_num_blocks=len(rows))
            for step in steps:
                data = data.flat_map(
                    _Actor,
                    fn_constructor_args=(step, secrets.token_hex(8), self._folder),
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self._workers(step)),
                    num_cpus=round(step.resources.cpus * share, 4),
                    num_gpus=step.resources.gpus,
                    resources={kind: float(getattr(step.resources, kind)) for kind in sorted(self.kinds)},
                )
            for row in data.iter_rows():
                yield _result(row)

    def _workers(self, step: Step) -> int:
        needs = asdict(step.resources)
        most = min((getattr(self.total, kind) / need for kind, need in needs.items() if need), default=self.total.cpus)
        return max(1, int(min(most + 1e-9, step.workers or most)))


class _Actor:
    def __init__(self, step: Step, run: str, folder: Path | None) -> None:
        self.step, self.run = step, run
        self.folder = folder or Path(gettempdir())
        self.work: Work | None = None

    def __call__(self, row: dict[str, bytes]) -> list[dict[str, bytes]]:
        value = loads(row["row"])
        if value["item"] is None:
            return [row]
        try:
            if self.work is None:
                self.work = self.step.open()
            item = Item(**value["item"])
            with self._trial(item) as deaths:
                if deaths >= DEATHS:
                    item = put_aside(item, f"{self.step.name}: it brought {deaths} workers down")
                result = run_step(self.work, item)
        except Exception as error:
            text = str(error) if isinstance(error, InputError | OutputError) else traceback.format_exc()
            return [_row(None, error=[type(error).__name__, text])]
        measures = value["measures"] + [asdict(measure) for measure in result.measures]
        first, *others = result.items or (None,)
        return [_row(first, measures), *(_row(item) for item in others)]

    @contextmanager
    def _trial(self, item: Item) -> Iterator[int]:
        """Leave a mark while the item is worked on, and give how many actors left one and did not live to wipe it."""
        mark = self.folder / f"curate-{self.run}-{item.id}"
        with mark.open("ab") as file:
            deaths = file.tell()
            file.write(b"x")
        try:
            yield deaths
        finally:
            mark.unlink()


def _row(item: Item | None, measures: Sequence[Any] = (), error: list[str] | None = None) -> dict[str, bytes]:
    whole = None if item is None else {"id": item.id, "path": item.path, "columns": dict(item.columns)}
    return {"row": dumps({"item": whole, "measures": list(measures), "error": error})}


def _result(row: dict[str, Any]) -> StepResult:
    value = loads(row["row"])
    if value["error"] is not None:
        kind, text = value["error"]
        raise {"InputError": InputError, "OutputError": OutputError}.get(kind, RuntimeError)(text)
    items = () if value["item"] is None else (Item(**value["item"]),)
    return StepResult(items=items, measures=tuple(Measure(**measure) for measure in value["measures"]))


@contextmanager
def _settings() -> Iterator[None]:
    """One row a block, so that items of one video spread over actors and leave one by one; and no bars."""
    import ray.data

    context = ray.data.DataContext.get_current()
    mine = {"target_max_block_size": 1, "enable_progress_bars": False, "print_on_execution_start": False}
    # Not every release has every one of them.
    before = {name: getattr(context, name) for name in mine if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, mine[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
