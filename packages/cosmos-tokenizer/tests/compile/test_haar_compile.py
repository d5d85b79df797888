"""The Haar kernels, compiled for three generations of GPUs: one read, one write, no spills, four programs at a time."""

from collections.abc import Callable

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.compile

TARGETS = [80, 90, 100]
# Both dtypes where registers are scarcest; elsewhere the one in which the networks run.
CASES = [("video", 4, "fp32"), ("video", 4, "bf16"), ("video", 2, "bf16"), ("image", 4, "bf16"), ("image", 2, "bf16")]
# 65,536 registers hold four programs of 128 threads, whose loads together cover the memory's latency.
MOST_REGISTERS = 128


def constants(media: str, patch_size: int, lead: str) -> dict[str, object]:
    from cosmos_tokenizer import haar_triton

    axes = 3 if media == "video" else 2
    c_block, w_block = haar_triton.blocks(3, 320, patch_size**axes)
    lead = lead if media == "video" else "none"
    blocks = {"PATCH": patch_size, "AXES": axes, "LEAD": lead, "C_BLOCK": c_block, "W_BLOCK": w_block}
    return {**blocks, "x_stride_w": 1, "y_stride_d": 1}


def tile(constants: dict[str, object]) -> int:
    return constants["C_BLOCK"] * constants["W_BLOCK"] * constants["PATCH"] ** constants["AXES"]


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize(("media", "patch_size", "dtype"), CASES)
def test_analysis(ahead_of_time: Callable, media: str, patch_size: int, dtype: str, capability: int) -> None:
    from cosmos_tokenizer.haar_triton import haar_analyse_kernel

    settings = constants(media, patch_size, "repeat") | {"RAGGED": False}
    kernel = ahead_of_time(haar_analyse_kernel, capability, settings, dtype=dtype)
    check(kernel, capability, tile(settings))
    assert kernel.ttir.count("tt.store") == 1
    row = patch_size * (32 if dtype == "fp32" else 16)
    loads = {128: "ld.global.v4.b32", 64: "ld.global.v2.b32", 32: "ld.global.b32"}
    assert loads[row] in kernel.ptx


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize(("media", "patch_size", "dtype"), CASES)
def test_synthesis(ahead_of_time: Callable, media: str, patch_size: int, dtype: str, capability: int) -> None:
    from cosmos_tokenizer.haar_triton import haar_synthesise_kernel

    settings = constants(media, patch_size, "sum")
    kernel = ahead_of_time(haar_synthesise_kernel, capability, settings, dtype=dtype)
    check(kernel, capability, tile(settings))
    assert kernel.ttir.count("tt.load") == 1
    row = patch_size * (32 if dtype == "fp32" else 16)
    stores = {128: "st.global.v4.b32", 64: "st.global.v2.b32", 32: "st.global.b32"}
    assert stores[row] in kernel.ptx


# "none" where a clip goes on, "zero" in the gradient of an `unpatch` where it starts; odd widths are reflected, which
# takes the most registers.
@pytest.mark.parametrize(
    ("media", "lead", "ragged", "capability"),
    [
        ("video", "none", False, 90),
        ("video", "zero", False, 90),
        ("video", "zero", True, 90),
        ("image", "none", True, 90),
        *(("video", "repeat", True, capability) for capability in TARGETS),
    ],
)
def test_analysis_of_every_lead_and_of_odd_widths(
    ahead_of_time: Callable, media: str, lead: str, ragged: bool, capability: int
) -> None:
    from cosmos_tokenizer.haar_triton import haar_analyse_kernel

    settings = constants(media, 4, lead) | {"RAGGED": ragged}
    kernel = ahead_of_time(haar_analyse_kernel, capability, settings, dtype="bf16")
    check(kernel, capability, tile(settings), neighbours=not ragged)


@pytest.mark.parametrize("lead", ["none", "drop"])
def test_synthesis_of_every_lead(ahead_of_time: Callable, lead: str) -> None:
    from cosmos_tokenizer.haar_triton import haar_synthesise_kernel

    settings = constants("video", 4, lead)
    kernel = ahead_of_time(haar_synthesise_kernel, 90, settings, dtype="bf16")
    check(kernel, 90, tile(settings))


def check(kernel: object, capability: int, tile: int, *, neighbours: bool = True) -> None:
    print(f"sm_{capability}: {kernel.registers} registers")
    assert f".target sm_{capability}" in kernel.ptx
    assert kernel.cubin.startswith(b"\x7fELF")
    assert kernel.spilled == 0
    assert kernel.registers <= MOST_REGISTERS
    # Every element of the tile once, and no loop that would do it again.
    assert kernel.elements("load") == tile
    assert kernel.elements("store") == tile
    assert "scf.for" not in kernel.ttir
    if neighbours:  # which reflected pixels are not: their loads are in an order of their own, and exchanged too
        # The exchange between the order of the pixels and that of the coefficients, and no other.
        assert kernel.ttgir.count("ttg.convert_layout") == 1
