"""The executor in this process, the default and the reference: threads, bounded queues, one budget of resources."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from cosmos_curate.engine.budget import Budget
from cosmos_curate.engine.channel import Channel, Stopped
from cosmos_curate.engine.steps import Step, StepResult, run_step
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Item, Resources


class LocalExecutor:
    """Each step has as many threads as its resources allow, and works only while it holds them.

    Args:
        total: what the machine has.
    """

    def __init__(self, total: Resources) -> None:
        self.total = total
        self._queues: dict[str, Channel[Item]] = {}

    def stream(self, items: Iterable[Item], steps: Sequence[Step]) -> Iterator[StepResult]:
        """Yield results as they come; see `Executor`.

        Raises:
            InputError: a step wants what this machine has none or not enough of.
            Exception: what a step's function raised.
        """
        check_resources(steps, self.total)
        run = _Run(items, steps, self.total)
        self._queues = run.queues
        return run.results()

    def depths(self) -> dict[str, int]:
        """Return how many items wait for each step, now."""
        return {name: len(queue) for name, queue in self._queues.items()}

    def close(self) -> None:
        """Nothing is held between runs."""


def check_resources(steps: Sequence[Step], total: Resources) -> None:
    """Make sure that every step can run.

    Raises:
        InputError: a step wants what there is none or not enough of; cores aside, which it makes do with.
    """
    for step in steps:
        for kind in ("gpus", "nvdec", "network"):
            wanted, there = getattr(step.resources, kind), getattr(total, kind)
            if wanted > there:
                raise InputError(f"step {step.name} needs {kind} {wanted:g} and there is {there:g}")
    names = [step.name for step in steps]
    if len(set(names)) < len(names):
        raise InputError(f"two steps have one name: {', '.join(names)}")


class _Run:
    def __init__(self, items: Iterable[Item], steps: Sequence[Step], total: Resources) -> None:
        self.items, self.steps = items, steps
        self.budget = Budget(total)
        self.counts = [min(self.budget.workers(step.resources), step.workers or 10**6) for step in steps]
        writers = [1, *self.counts]
        self.queues = {
            step.name: Channel[Item](2 * count, before)
            for step, count, before in zip(steps, self.counts, writers, strict=False)
        }
        self.out = Channel[StepResult](4 * max([1, *self.counts]), sum(writers))
        self.errors: list[BaseException] = []

    def results(self) -> Iterator[StepResult]:
        threads = [threading.Thread(target=self._feed, name="curate-feed", daemon=True)]
        for rank, (step, count) in enumerate(zip(self.steps, self.counts, strict=True)):
            threads += [
                threading.Thread(target=self._work, args=(rank,), name=f"curate-{step.name}-{index}", daemon=True)
                for index in range(count)
            ]
        try:
            for thread in threads:
                thread.start()
            while True:
                try:
                    result = self.out.get()
                except Stopped:
                    break
                yield result
        finally:
            self._stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self.errors:
            raise self.errors[0]

    def _stop(self) -> None:
        self.budget.stop()
        for queue in (*self.queues.values(), self.out):
            queue.stop()

    def _feed(self) -> None:
        first = next(iter(self.queues.values()), None)
        with self._writing(first):
            for item in self.items:
                if first is None:
                    self.out.put(StepResult(items=(item,)))
                else:
                    first.put(item)

    def _work(self, rank: int) -> None:
        queues = list(self.queues.values())
        source, step = queues[rank], self.steps[rank]
        target = queues[rank + 1] if rank + 1 < len(queues) else None
        with self._writing(target):
            work = step.open()
            while True:
                item = source.get()
                with self.budget.hold(step.resources, rank):
                    result = run_step(work, item)
                self._hand_on(result, target)

    @contextmanager
    def _writing(self, target: Channel[Item] | None) -> Iterator[None]:
        """Around all that a thread does: an error stops the run, and at the end its queues have a writer less."""
        try:
            yield
        except Stopped:
            pass
        except BaseException as error:
            self.errors.append(error)
            self._stop()
        finally:
            if target is not None:
                target.finish()
            self.out.finish()

    def _hand_on(self, result: StepResult, target: Channel[Item] | None) -> None:
        if target is None:
            self.out.put(result)
            return
        if result.measures:
            self.out.put(StepResult(measures=result.measures))
        for item in result.items:
            target.put(item)
