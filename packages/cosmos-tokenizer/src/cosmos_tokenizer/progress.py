"""Progress of long work: a bar with the time left on a terminal, a line every few seconds anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOBase
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from cosmos_tokenizer.jsontext import readable

if TYPE_CHECKING:
    from torch import nn

PERIOD = 5.0
"""Seconds between two lines where there is no terminal."""

_TELLING = 0.05  # below this share, reading and the first layers say little about the rest


class Progress:
    """Counts units of work, fractions included, on `stream`; standard error stays free for errors.

    Args:
        total: units of work in all, at least 1.
        clock: seconds, monotonic.
    """

    def __init__(
        self, total: int, *, stream: TextIO | TextIOBase | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stdout
        self._total, self._done, self._label, self._note = total, 0.0, "", ""
        self._clock = clock
        self._start = self._last = clock()
        self._bar = None
        if self._stream.isatty():
            form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self._bar = tqdm(total=total, file=self._stream, bar_format=form, leave=False)

    def start(self, label: str) -> None:
        """Name the unit of work that begins."""
        self._label = readable(label)
        if self._bar is not None:
            self._bar.set_description_str(self._named())

    def advance(self, amount: float) -> None:
        """Count `amount` more units as done, and show it when due."""
        amount = min(amount, self._total - self._done)
        self._done += amount
        if self._bar is not None:
            self._bar.set_description_str(self._named(), refresh=False)
            self._bar.update(amount)
            return
        now = self._clock()
        if now - self._last >= PERIOD:
            self._last = now
            share = self._done / self._total
            left = f", about {(now - self._start) * (1 / share - 1):.0f} s left" if share >= _TELLING else ""
            print(f"{self._named()}: {100 * share:.0f}% of all{left}", file=self._stream, flush=True)

    def say(self, line: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.clear()
        print(readable(line), file=self._stream, flush=True)

    @contextmanager
    def counting(self, frames: int | None) -> Iterator[Callable[[int], None]]:
        """Give a function that counts frames of one unit of work, of which there are about `frames`; None: unknown.

        The unit is done when the block ends, however many frames there were.
        """
        counted, told = 0, 0.0

        def count(more: int) -> None:
            nonlocal counted, told
            counted += more
            share = min(counted / frames, 1.0) if frames else 0.0
            self._note = "" if frames else f"{counted} frames"
            self.advance(share - told)
            told = share

        try:
            yield count
        finally:
            self._note = ""
        self.advance(1.0 - told)

    @contextmanager
    def follow(self, module: "nn.Module | None", share: float) -> Iterator[None]:
        """Count `share` units while `module` runs once, in steps as its layers finish."""
        leaves = [] if module is None else [leaf for leaf in module.modules() if not any(leaf.children())]
        step = share / max(1, len(leaves))
        counted = 0.0

        def finished(*_: object) -> None:
            nonlocal counted
            amount = min(step, share - counted)
            counted += amount
            self.advance(amount)

        handles = [leaf.register_forward_hook(finished) for leaf in leaves]
        try:
            yield
            self.advance(share - counted)
        finally:
            for handle in handles:
                handle.remove()

    def _named(self) -> str:
        return f"{self._label}, {self._note}" if self._note else self._label

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
