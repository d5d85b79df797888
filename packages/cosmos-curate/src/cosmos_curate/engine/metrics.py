"""What a run cost and gave, by stage: items, seconds, video-hours, drops; as JSON, and live for Prometheus."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from cosmos_curate.engine.steps import Measure, StepResult


@dataclass
class StageTotal:
    """Sums over a stage's measures, in the order that they came first."""

    items: int = 0
    reused: int = 0
    quarantined: int = 0
    wall_s: float = 0
    cpu_s: float = 0
    gpu_s: float = 0
    video_s: float = 0
    worked_video_s: float = 0
    """Of items that were worked on, not reused."""

    def add(self, measure: Measure) -> None:
        """Add one item's."""
        for name in ("items", "reused", "quarantined", "wall_s", "cpu_s", "gpu_s", "video_s"):
            setattr(self, name, getattr(self, name) + getattr(measure, name))
        if not measure.reused:
            self.worked_video_s += measure.video_s

    def to_json(self, elapsed_s: float) -> dict[str, Any]:
        """Return sums and rates: items and video-hours by the run's clock, cost by the clip-hours worked on."""
        worked_hours = self.worked_video_s / 3600
        return {
            **{field.name: getattr(self, field.name) for field in fields(self) if field.name != "worked_video_s"},
            "items_per_s": _rate(self.items, elapsed_s),
            "video_hours_per_h": _rate(self.video_s, elapsed_s),
            "cpu_s_per_clip_hour": _rate(self.cpu_s, worked_hours),
            "gpu_s_per_clip_hour": _rate(self.gpu_s, worked_hours),
        }


class Metrics:
    """Totals of a run; one thread adds, any may read.

    Seconds of CPU by stage are those of the workers' own threads and of the programs that they ran; what a library's
    threads use is only in the whole run's `cpu_s`, which counts this process and its children that have ended. On Ray
    the work is done by other processes: the stages' sums count there, the run's does not. Seconds of GPU are those for
    which a worker held one, times the share it asked for; how busy it was then is not known.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._cpu = _cpu_s()
        self._lock = threading.Lock()
        self._stages: dict[str, StageTotal] = {}
        self._drops: Counter[str] = Counter()
        self._depths: dict[str, int] = {}
        self._deepest: dict[str, int] = {}

    def add(self, measures: Iterable[Measure]) -> None:
        """Add what a step measured."""
        with self._lock:
            for measure in measures:
                self._stages.setdefault(measure.stage, StageTotal()).add(measure)

    def drop(self, rule: str, count: int = 1) -> None:
        """Count clips that a rule dropped."""
        with self._lock:
            self._drops[rule] += count

    def watch(self, results: Iterable[StepResult], depths: Callable[[], Mapping[str, int]]) -> Iterator[StepResult]:
        """Pass an executor's results on, adding what they measured and noting how many items wait for each step."""
        for result in results:
            self.add(result.measures)
            now = depths()
            with self._lock:
                for name, depth in now.items():
                    self._depths[name] = depth
                    self._deepest[name] = max(depth, self._deepest.get(name, 0))
            yield result

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._started

    @contextmanager
    def serving(self, port: int | None) -> Iterator[None]:
        """Serve them for Prometheus meanwhile, on this machine's port; None for not at all.

        Raises:
            InputError: the port cannot be had.
        """
        if port is None:
            yield
            return
        from cosmos_curate.engine.prometheus import endpoint

        with endpoint(self, port):
            yield

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON takes it: `stages` by name, `drops` by rule, `queues` by step."""
        with self._lock:
            elapsed_s = self.elapsed_s
            return {
                "elapsed_s": elapsed_s,
                "cpu_s": _cpu_s() - self._cpu,
                "stages": {name: total.to_json(elapsed_s) for name, total in self._stages.items()},
                "drops": dict(sorted(self._drops.items())),
                "queues": {
                    name: {"depth": self._depths.get(name, 0), "deepest": deepest}
                    for name, deepest in self._deepest.items()
                },
            }


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _rate(amount: int | float, per: int | float) -> float | None:
    return amount / per if per > 0 else None
