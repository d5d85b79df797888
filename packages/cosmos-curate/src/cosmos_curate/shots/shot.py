"""A shot, and what a detector of shots is."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cosmos_curate.media.reading import Shown


class Shot(NamedTuple):
    """Frames `first` to `end` (excluded) of a video in the order they are shown, without a transition among them."""

    first: int
    end: int


Reading = Callable[[], Iterator[Shown]]
"""Starts decoding one video from its first frame."""
Detect = Callable[[Reading], list[Shot]]
"""Shots of one video, in order and disjoint; frames between two of them are a transition's."""
