"""The FSQ kernels, compiled for three generations of GPUs: one read, one write, no spills, rounding left as written."""

from collections.abc import Callable

import pytest

from cosmos_tokenizer import fsq_reference

pytest.importorskip("triton")
pytestmark = pytest.mark.compile

TARGETS = [80, 90, 100]
LEVELS = (8, 8, 8, 5, 5, 5)
# Eight programs of 128 threads on a multiprocessor.
MOST_REGISTERS = 64


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_forward(ahead_of_time: Callable, dtype: str, capability: int) -> None:
    from cosmos_tokenizer.fsq_triton import BLOCK, bound, fsq_kernel

    offsets = tuple(fsq_reference.offset(n) for n in LEVELS)
    settings = bound(LEVELS) | {"OFFSETS": offsets, "LIBDEVICE": True, "BLOCK": BLOCK}
    settings |= {"z_stride_s": 1, "codes_stride_s": 1}
    kernel = ahead_of_time(
        fsq_kernel, capability, settings, dtype=dtype, dtypes={"indices_ptr": "i32"}, enable_fp_fusion=False
    )
    check(kernel, capability)
    assert kernel.elements("load") == len(LEVELS) * BLOCK
    assert kernel.elements("store") == (len(LEVELS) + 1) * BLOCK
    # 1.5 * 2**23 added, then subtracted: no compiler has taken the pair for nothing.
    assert "0f4B400000" in kernel.ptx
    assert "0fCB400000" in kernel.ptx


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_backward(ahead_of_time: Callable, dtype: str, capability: int) -> None:
    from cosmos_tokenizer.fsq_triton import BLOCK, bound, fsq_backward_kernel

    strides = dict.fromkeys(["grad_stride_s", "z_stride_s", "out_stride_s"], 1)
    settings = bound(LEVELS) | {"LIBDEVICE": True, "BLOCK": BLOCK} | strides
    kernel = ahead_of_time(fsq_backward_kernel, capability, settings, dtype=dtype, enable_fp_fusion=False)
    check(kernel, capability)
    assert kernel.elements("load") == 2 * len(LEVELS) * BLOCK
    assert kernel.elements("store") == len(LEVELS) * BLOCK


def check(kernel: object, capability: int) -> None:
    print(f"sm_{capability}: {kernel.registers} registers")
    assert f".target sm_{capability}" in kernel.ptx
    assert kernel.cubin.startswith(b"\x7fELF")
    assert kernel.spilled == 0
    assert kernel.registers <= MOST_REGISTERS
    assert "scf.for" not in kernel.ttir
