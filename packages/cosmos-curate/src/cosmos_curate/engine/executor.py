"""What runs steps over items: a Protocol, its conformance check, and the two that come with the package."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from cosmos_curate.engine.steps import Measure, Step, StepResult, Work, put_aside
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Item, Resources

EXECUTORS = ("local", "ray")


@runtime_checkable
class Executor(Protocol):
    """Runs steps over items; the order of what comes out is nobody's promise."""

    def stream(self, items: Iterable[Item], steps: Sequence[Step]) -> Iterator[StepResult]:
        """Yield results as they come: items that went through all steps, each once, and measures of any step.

        It takes items only as fast as the steps work, and steps only as fast as the caller takes results. Closing the
        iterator stops the run, and when that returns nothing of it runs any more.

        Raises:
            Exception: what a step's function raised; the run has stopped.
        """
        ...

    def depths(self) -> dict[str, int]:
        """Return how many items wait for each step, now; empty where that cannot be told."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def open_executor(
    name: str, *, cpus: int | None = None, gpus: int | float | None = None, network: int = 32
) -> Executor:
    """Return the executor of this name, for the caller to close.

    Args:
        name: "local": threads of this process; "ray": actors of Ray, on the cluster that RAY_ADDRESS names or on this
            machine.
        cpus: cores to use; None for all of them.
        gpus: GPUs to use; None for all of them.
        network: concurrent requests to services outside.

    Raises:
        InputError: there is no such executor, its package is missing, or a number is out of range.
    """
    from cosmos_curate.engine.machine import machine

    total = machine(cpus=cpus, gpus=gpus, network=network)
    if name == "local":
        from cosmos_curate.engine.local import LocalExecutor

        return LocalExecutor(total)
    if name == "ray":
        from cosmos_curate.engine.ray import RayExecutor

        return RayExecutor(total)
    raise InputError(f"executor {name!r} is none of {', '.join(EXECUTORS)}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """A step of the conformance check: an item of id `N...` becomes `size` items, 7 goes into quarantine."""

    name: str = "split"
    size: int = 3
    resources: Resources = Resources()
    workers: int | None = None

    def open(self) -> Work:
        """Return the function."""
        return self._run

    def _run(self, item: Item) -> StepResult:
        measure = (Measure(stage=self.name, video_s=1.0),)
        number = item.columns["number"]
        if number == 7:
            return StepResult(items=(put_aside(item, "seven"),), measures=measure)
        size = 0 if number == 5 else self.size
        parts = (replace(item, id=f"{item.id}-{part}", columns={**item.columns, "part": part}) for part in range(size))
        return StepResult(items=tuple(parts), measures=measure)


@dataclass(frozen=True, kw_only=True)
class Square:
    """A step of the conformance check: writes `square`, and raises on the number `bad`."""

    name: str = "square"
    bad: int | None = None
    resources: Resources = Resources(network=1)
    workers: int | None = 2

    def open(self) -> Work:
        """Return the function."""
        return self._run

    def _run(self, item: Item) -> StepResult:
        number = item.columns["number"]
        assert isinstance(number, int)
        assert number != 7, "an item in quarantine came to a step"
        if number == self.bad:
            raise InputError(f"number {number} is bad")
        columns = {**item.columns, "square": number**2, "third": number / 3}
        return StepResult(items=(replace(item, columns=columns),), measures=(Measure(stage=self.name),))


def check_executor(executor: Executor) -> None:
    """Raise AssertionError, saying what is wrong, unless the executor keeps its word: the conformance check."""
    items = [Item(id=f"{number:02}", path=f"{number}.mp4", columns={"number": number}) for number in range(12)]
    results = list(executor.stream(iter(items), (Split(), Square())))
    found = sorted((item for result in results for item in result.items), key=lambda item: item.id)
    expected = [
        replace(item, id=f"{item.id}-{part}", columns={"number": n, "part": part, "square": n**2, "third": n / 3})
        for n, item in enumerate(items)
        for part in range(3)
        if n not in (5, 7)
    ]
    expected.append(put_aside(items[7], "seven"))
    assert found == sorted(expected, key=lambda item: item.id), f"{len(found)} items came, {len(expected)} were due"
    stages = [measure.stage for result in results for measure in result.measures]
    assert stages.count("split") == 12, f"12 items were split and {stages.count('split')} measured"
    assert stages.count("square") == 30, f"30 items were squared and {stages.count('square')} measured"
    assert list(executor.stream([], (Split(), Square()))) == [], "no items gave results"
    stream = executor.stream(iter(items), (Split(), Square(bad=3)))
    message = None
    try:
        list(stream)
    except InputError as error:
        message = str(error)
    assert message == "number 3 is bad", f"a step's error became {message}"
