"""A piece of a video, by frames and by time."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Span:
    """Frames `first` to `end` (excluded) of a video in the order they are shown.

    Args:
        start_s: when the first of them is shown, on the video's own clock.
        end_s: when the last of them gives way.
    """

    first: int
    end: int
    start_s: float
    end_s: float
