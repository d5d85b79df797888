"""What the stream hands out: one process's part of a global batch."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Crops of one size, and of each sample what training may want to know; pictures are clips of one frame."""

    video: Float[Tensor, "B 3 T H W"]
    """In [-1, 1]."""
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    """One a sample, below 2**63: for random draws that do not depend on the number of processes."""
    texts: tuple[str | None, ...]
    """Captions."""
    rates: tuple[float | None, ...]
    """Frames per second, of the frames that were taken."""
    skipped: int
    """How many different samples this process has passed over so far because they could not be read; those whose
    descriptions could not are counted by the first one."""
