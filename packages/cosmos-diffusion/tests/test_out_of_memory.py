"""What is said where memory was not enough: the least that would fit, by the sums of ``memory``."""

from dataclasses import replace

import pytest
import torch

from cosmos_diffusion import PRESETS
from cosmos_diffusion.memory import memory
from cosmos_diffusion.out_of_memory import Run, is_out_of_memory, way_out

RUN = Run(
    config=replace(PRESETS["toy-video"], blocks=12),
    frames=17,
    height=64,
    width=96,
    compression=(8, 8),
    device="cuda:0",
    dtype="float32",
)


def needed(**options: object) -> int:
    return memory(RUN.config, 17, 64, 96, **options).total


@pytest.mark.parametrize(
    ("capacity", "says"),
    [
        (needed(weights="float32"), "--offload components would need"),
        (needed(weights="bfloat16"), "--offload components --dtype bfloat16 would need"),
        (needed(weights="int8"), "--offload components --dtype bfloat16 --weights int8 would need"),
        (needed(weights="bfloat16", ahead=1), "--offload blocks --dtype bfloat16 would need"),
        (needed(weights="int8", ahead=1), "--offload blocks --dtype bfloat16 --weights int8 would need"),
        (
            needed(weights="int8", ahead=1, together=False),
            "--offload blocks --dtype bfloat16 --weights int8 --in-turn would need",
        ),
    ],
)
def test_the_least_change_that_fits_is_named(capacity: int, says: str) -> None:
    assert way_out(RUN, capacity + 1).startswith(says)
    assert not way_out(RUN, capacity).startswith(says)


def test_what_a_run_had_is_not_said_again() -> None:
    had = replace(RUN, dtype="bfloat16", offload="components")
    assert way_out(had, needed(weights="int8") + 1).startswith("--weights int8 would need")
    on_cpu = replace(RUN, device="cpu", weights="float8")
    assert way_out(on_cpu, 1 << 40).startswith("--dtype bfloat16 would need")
    everything = replace(had, offload="blocks", weights="int8", in_turn=True)
    assert "the network alone needs" in way_out(everything, 1 << 40)
    assert "fewer --frames" in way_out(RUN, 1000)


def test_errors_of_full_memory_are_told_from_others() -> None:
    full = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    assert all(is_out_of_memory(error) for error in (MemoryError(), torch.OutOfMemoryError("CUDA"), full))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
