"""What a machine has, shared out: a worker holds its step's resources while it works; later steps come first."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple

from cosmos_curate.engine.channel import Stopped
from cosmos_curate.stage import Resources


def amounts(resources: Resources) -> tuple[float, ...]:
    """Return cores, GPUs, decoders and connections."""
    return tuple(float(amount) for amount in astuple(resources))


class Budget:
    """Cores, GPUs, decoders and connections, handed out so that no more is in use than there is.

    A step further down the pipeline goes first: what is nearly done is finished before more is begun.
    """

    def __init__(self, total: Resources) -> None:
        self.total = total
        self._free = list(amounts(total))
        self._waiting: list[tuple[int, tuple[float, ...]]] = []
        self._changed = threading.Condition()
        self._stopped = False

    def need(self, resources: Resources) -> tuple[float, ...]:
        """Return what a worker takes: cores never more than there are, so that a small machine runs every step."""
        cpus, *others = amounts(resources)
        return (min(cpus, float(self.total.cpus)), *others)

    def workers(self, resources: Resources) -> int:
        """Return how many workers can work at once, at least 1."""
        needs = zip(self.need(resources), amounts(self.total), strict=True)
        return max(1, int(min((total / need + 1e-9 for need, total in needs if need), default=float(self.total.cpus))))

    @contextmanager
    def hold(self, resources: Resources, rank: int) -> Iterator[None]:
        """Wait until the resources are free and no step of a higher rank could use them, and hold them.

        Raises:
            Stopped: the run has ended.
        """
        need = self.need(resources)
        with self._changed:
            mine = (rank, need)
            self._waiting.append(mine)
            try:
                self._changed.wait_for(
                    lambda: self._stopped or (self._fits(need) and not self._keeps_from_others(mine))
                )
            finally:
                self._waiting.remove(mine)
            if self._stopped:
                raise Stopped
            self._free = [free - taken for free, taken in zip(self._free, need, strict=True)]
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free = [free + taken for free, taken in zip(self._free, need, strict=True)]
                self._changed.notify_all()

    def stop(self) -> None:
        """Wake everybody that waits; nothing is handed out any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _fits(self, need: tuple[float, ...]) -> bool:
        return all(free + 1e-9 >= wanted for free, wanted in zip(self._free, need, strict=True))

    def _keeps_from_others(self, mine: tuple[int, tuple[float, ...]]) -> bool:
        """Whether a step of a higher rank waits that could start now, and could not after mine has."""
        rank, need = mine
        left = [free - taken for free, taken in zip(self._free, need, strict=True)]
        for other, wanted in self._waiting:
            short = [taken for taken, rest, want in zip(need, left, wanted, strict=True) if want > rest + 1e-9]
            if other > rank and short and all(short) and self._fits(wanted):
                return True
        return False
