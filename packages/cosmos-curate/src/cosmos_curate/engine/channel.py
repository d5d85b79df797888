"""A bounded queue between threads that can be closed from both ends, without polling."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The channel was stopped: nothing more is wanted."""


class Channel(Generic[T]):
    """At most `bound` things wait in it.

    Args:
        bound: at least 1.
        writers: how many call `finish` before it ends.
    """

    def __init__(self, bound: int, writers: int) -> None:
        self.bound, self.writers, self.peak = bound, writers, 0
        self._things: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = False

    def put(self, thing: T) -> None:
        """Add a thing, waiting for room.

        Raises:
            Stopped: nobody wants it any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._things) < self.bound)
            if self._stopped:
                raise Stopped
            self._things.append(thing)
            self.peak = max(self.peak, len(self._things))
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest thing, waiting for one.

        Raises:
            Stopped: none will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or bool(self._things) or self.writers == 0)
            if self._stopped or not self._things:
                raise Stopped
            thing = self._things.popleft()
            self._changed.notify_all()
            return thing

    def finish(self) -> None:
        """Say that one writer will write no more; after the last one readers get what is left."""
        with self._changed:
            self.writers -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Drop what waits and wake everybody."""
        with self._changed:
            self._stopped = True
            self._things.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._things)
