"""Where memory was not enough: how that is told from other errors, and which option would do with what there is."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cosmos_diffusion.config import DiTConfig

_GB = 1e9


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full; on the CPU, torch has no class of its own for it."""
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return full or "can't allocate memory" in str(error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What was to be generated, and how memory was used: words and values are those of ``generate``'s options."""

    config: DiTConfig
    frames: int
    height: int
    width: int
    compression: tuple[int, int]
    device: str
    dtype: str
    offload: str = "none"
    weights: Literal["int8", "float8"] | None = None
    in_turn: bool = False


def way_out(run: Run, capacity: int | None = None) -> str:
    """The least that would have to change for a run to fit, by the sums of ``memory``, which allocate nothing.

    Args:
        run: that did not fit.
        capacity: bytes of memory; those of its device by default.
    """
    have = _capacity(run.device) if capacity is None else capacity
    least = _needed(run)
    for other in _ladder(run):
        needs = _needed(other)
        least = min(least, needs)
        if needs < have:
            return f"{_options(run, other)} would need {needs / _GB:.1f} of the {have / _GB:.1f} GB on {run.device}"
    return (
        f"the network alone needs {least / _GB:.1f} GB or more, and {run.device} has {have / _GB:.1f}: make a clip of "
        "fewer --frames or smaller --height and --width, or share the work out with torchrun"
    )


def _ladder(run: Run) -> Iterator[Run]:
    """The same run with what takes less memory, from most to least convenient; paging is to a GPU."""
    on_gpu = run.device != "cpu"
    parts = replace(run, offload="components") if on_gpu and run.offload == "none" else run
    half = replace(parts, dtype="bfloat16") if run.dtype == "float32" else parts
    eight = replace(half, weights=run.weights or "int8")
    blocks = replace(half, offload="blocks") if on_gpu else half
    both = replace(blocks, weights=eight.weights)
    for other in dict.fromkeys((parts, half, eight, blocks, both, replace(both, in_turn=True))):
        if other != run:
            yield other


def _options(run: Run, other: Run) -> str:
    """What would have to be said beside what was."""
    changed = [name for name in ("offload", "dtype", "weights") if getattr(run, name) != getattr(other, name)]
    words = [f"--{name} {getattr(other, name)}" for name in changed]
    return " ".join([*words, *(["--in-turn"] if other.in_turn and not run.in_turn else [])])


def _needed(run: Run) -> int:
    # Imported here: torch takes seconds, and telling errors apart needs none of it.
    from cosmos_diffusion.memory import memory

    return memory(
        run.config,
        run.frames,
        run.height,
        run.width,
        weights=run.weights or ("float32" if run.dtype == "float32" else "bfloat16"),
        ahead=1 if run.offload == "blocks" else None,
        together=not run.in_turn,
        compression=run.compression,
    ).total


def _capacity(device: str) -> int:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
