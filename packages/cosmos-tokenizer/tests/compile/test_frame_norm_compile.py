"""The norm kernels, compiled for three generations of GPUs: two reads and one write in whole vectors, no spills."""

from collections.abc import Callable

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.compile

TARGETS = [80, 90, 100]
# Widths of the networks, a power of two and not.
CASES = [(256, "fp32"), (256, "bf16"), (96, "fp32"), (96, "bf16")]
# 65,536 registers hold three programs of 256 threads.
MOST_REGISTERS = 80
VECTORS = {"fp32": 8, "bf16": 4}
"""16-byte accesses with which a thread moves its 32 elements."""


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize(("channels", "dtype"), CASES)
def test_moments(ahead_of_time: Callable, channels: int, dtype: str, capability: int) -> None:
    from cosmos_tokenizer.frame_norm_triton import BLOCK

    kernel = moments(ahead_of_time, capability, dtype, CHANNELS=channels)
    check(kernel, capability)
    assert kernel.registers <= MOST_REGISTERS
    assert kernel.ttir.count("scf.for") == 1
    assert kernel.elements("load") == BLOCK
    # Count, mean and squared deviations of the chunk, and no more.
    assert kernel.ttir.count("tt.store") == 3
    assert kernel.elements("store") == 0
    assert kernel.ptx.count("ld.global.v4.b32") == VECTORS[dtype]
    assert scalar(kernel, "ld") == 0


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize(("channels", "dtype"), CASES)
def test_norm(ahead_of_time: Callable, channels: int, dtype: str, capability: int, silu: bool) -> None:
    from cosmos_tokenizer.frame_norm_triton import BLOCK, MOST_CHUNKS

    kernel = norm(ahead_of_time, capability, dtype, CHANNELS=channels, SILU=silu)
    check(kernel, capability)
    assert kernel.registers <= MOST_REGISTERS
    assert kernel.elements("load") == 3 * BLOCK + 3 * MOST_CHUNKS
    assert kernel.elements("store") == BLOCK
    assert kernel.ptx.count("ld.global.v4.b32") == 3 * VECTORS[dtype]
    assert kernel.ptx.count("st.global.v4.b32") == VECTORS[dtype]
    # Two of each moment for a thread, and the mean about which they are summed.
    assert scalar(kernel, "ld") == 7
    assert scalar(kernel, "st") == 0
    assert ("ex2.approx" in kernel.ptx) == silu


@pytest.mark.parametrize("capability", TARGETS)
def test_a_width_that_allows_no_vectors_and_a_frame_of_one_tile_compile_too(
    ahead_of_time: Callable, capability: int
) -> None:
    # A launch makes a constant of whatever is 1.
    single = {"pixels": 1, "chunks": 1, "tiles": 1, "CHANNELS": 27}
    check(moments(ahead_of_time, capability, "bf16", **single), capability)
    check(norm(ahead_of_time, capability, "bf16", **single, SILU=True), capability)


def moments(ahead_of_time: Callable, capability: int, dtype: str, **settings: int) -> object:
    from cosmos_tokenizer.frame_norm_triton import BLOCK, WARPS, frame_moments_kernel

    constants = {**settings, "BLOCK": BLOCK}
    dtypes = {"moments_ptr": "fp32"}
    return ahead_of_time(frame_moments_kernel, capability, constants, dtype=dtype, dtypes=dtypes, num_warps=WARPS)


def norm(ahead_of_time: Callable, capability: int, dtype: str, **settings: int) -> object:
    from cosmos_tokenizer.frame_norm_triton import BLOCK, MOST_CHUNKS, WARPS, frame_norm_kernel

    constants = {**settings, "MOST_CHUNKS": MOST_CHUNKS, "BLOCK": BLOCK}
    dtypes = {"moments_ptr": "fp32"}
    return ahead_of_time(frame_norm_kernel, capability, constants, dtype=dtype, dtypes=dtypes, num_warps=WARPS)


def scalar(kernel: object, way: str) -> int:
    """Accesses of a single element."""
    return kernel.ptx.count(f"{way}.global.b32") + kernel.ptx.count(f"{way}.global.b16")


def check(kernel: object, capability: int) -> None:
    print(f"sm_{capability}: {kernel.registers} registers")
    assert f".target sm_{capability}" in kernel.ptx
    assert kernel.cubin.startswith(b"\x7fELF")
    assert kernel.spilled == 0
