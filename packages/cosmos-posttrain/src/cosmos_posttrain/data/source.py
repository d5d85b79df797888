"""What the stream of batches asks of data: samples by number, described cheaply and read a window at a time."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A sample by its headers alone, which may be wrong: a clip, or a picture, which is one frame without a rate."""

    key: str
    """Unique in the source, and tells where the sample lies."""
    frames: int
    height: int
    width: int
    rate: float | None
    """Frames per second."""
    text: str | None
    """The caption, where there is one."""


@runtime_checkable
class Source(Protocol):
    """Samples of a data set, any of which can be had at any time; it is sent to worker processes, so it pickles."""

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def describe(self, index: int) -> Description:
        """Return what the headers say of a sample.

        Raises:
            InputError: they cannot be read.
        """
        ...

    def read(self, index: int, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
        """Read frames `first`, `first + step` and so on, `count` of them, in whole.

        Raises:
            InputError: the sample is broken or lacks one of these frames.
        """
        ...
