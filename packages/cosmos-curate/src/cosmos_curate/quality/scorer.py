"""What a scorer of quality must offer to take the place of the number made of BRISQUE and its helpers."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from cosmos_curate.media.frames import Frames, Sampling


@runtime_checkable
class QualityScorer(Protocol):
    """A model of technical quality; it must survive pickling, so `open` loads what it needs.

    `sampling` names the frames it wants, `settings` all else that changes its scores, `weights` the sha256 of its
    files by name.
    """

    @property
    def sampling(self) -> Sampling: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def weights(self) -> Mapping[str, str]: ...

    def open(self) -> Callable[[Frames], float]:
        """Return the function from a clip's frames to its quality; higher is better."""
        ...
