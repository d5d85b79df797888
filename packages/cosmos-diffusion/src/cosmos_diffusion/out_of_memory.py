"""Where memory was not enough: how that is told from other errors, and which option would do with what there is."""

import os
from dataclasses import dataclass

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
    weights: str | None = None
    in_turn: bool = False


def way_out(run: Run, capacity: int | None = None) -> str:
    """The least that would have to change for a run to fit, by the sums of ``memory``, which allocate nothing.

    Args:
        run: that did not fit.
        capacity: bytes of memory; those of its device by default.
    """
    # Imported here: torch takes seconds, and telling errors apart needs none of it.
    from cosmos_diffusion.memory import Weights, memory

    have = _capacity(run.device) if capacity is None else capacity
    dtype: Weights = "float32" if run.dtype == "float32" else "bfloat16"
    eight: Weights = "float8" if run.weights == "float8" else "int8"
    least = 0
    for options, kept, paged, in_turn in _ladder(run.device):
        needs = memory(
            run.config,
            run.frames,
            run.height,
            run.width,
            weights=eight if kept == "int8" else dtype if kept == "" else "bfloat16",
            ahead=1 if paged else None,
            together=not in_turn,
            compression=run.compression,
        ).total
        least = min(least or needs, needs)
        if needs < have and not _has(run, options):
            return f"{' '.join(options)} would need {needs / _GB:.1f} GB of the {have / _GB:.1f} GB on {run.device}"
    return (
        f"the network alone needs {least / _GB:.1f} GB or more, and {run.device} has {have / _GB:.1f} GB: make a clip "
        "of fewer --frames or smaller --height and --width, or share the work out with torchrun"
    )


def _ladder(device: str) -> list[tuple[tuple[str, ...], str, bool, bool]]:
    """Options, how weights are kept ("" is as they are), whether blocks are paged, and prompts in turn."""
    half, eight, turn = ("--dtype", "bfloat16"), ("--weights", "int8"), ("--in-turn",)
    if device == "cpu":
        return [
            (half, "bfloat16", False, False),
            (half + eight, "int8", False, False),
            (half + eight + turn, "int8", False, True),
        ]
    parts, blocks = ("--offload", "components"), ("--offload", "blocks")
    return [
        (parts, "", False, False),
        (parts + half, "bfloat16", False, False),
        (parts + half + eight, "int8", False, False),
        (blocks + half, "bfloat16", True, False),
        (blocks + half + eight, "int8", True, False),
        (blocks + half + eight + turn, "int8", True, True),
    ]


def _has(run: Run, options: tuple[str, ...]) -> bool:
    """Whether a run had all of them, or more than they are."""
    had = {
        "components": run.offload != "none",
        "blocks": run.offload == "blocks",
        "bfloat16": run.dtype != "float32",
        "int8": run.weights is not None,
        "--in-turn": run.in_turn,
    }
    return all(had[option] for option in options if option in had)


def _capacity(device: str) -> int:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
