"""Products against plain convolutions in float64: in place and under autograd, dtypes, pasts, strides."""

import pytest
import torch
import torch.nn.functional as F

from cosmos_tokenizer import products
from cosmos_tokenizer.layers import last_frames


def operands(frames: int, taps: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    x = torch.randn(batch, frames, 3, 4, 6, generator=generator)
    return x, torch.randn(5, 6, taps, generator=generator), torch.randn(5, generator=generator)


def expected(x: torch.Tensor, past: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Stride 1 in float64."""
    before = x[:, :1].expand(-1, weight.shape[2] - 1, -1, -1, -1) if past is None else past
    whole = torch.cat([before, x], dim=1).double().permute(0, 4, 1, 2, 3)
    return F.conv3d(whole, weight.double()[..., None, None], bias.double()).permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize("taps", [2, 3])
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@pytest.mark.parametrize("goes_on", [False, True], ids=["start", "goes on"])
@pytest.mark.parametrize("learns", [False, True], ids=["in place", "autograd"])
def test_causal_convolution(frames: int, taps: int, goes_on: bool, learns: bool) -> None:
    x, weight, bias = operands(frames, taps)
    past = torch.randn(2, taps - 1, 3, 4, 6) if goes_on else None
    got = products.causal_conv(x, past, weight.requires_grad_(learns), bias)
    torch.testing.assert_close(got.double(), expected(x, past, weight, bias), atol=1e-5, rtol=0)
    assert got.requires_grad == learns


@pytest.mark.parametrize("frames", [1, 3, 4, 7])
def test_a_stride_keeps_every_second_frame(frames: int) -> None:
    x, weight, bias = operands(frames, 3)
    got = products.causal_conv(x, None, weight, bias, stride=2)
    torch.testing.assert_close(got.double(), expected(x, None, weight, bias)[:, ::2], atol=1e-5, rtol=0)
    past = torch.randn(2, 1, 3, 4, 6)
    whole = expected(x, torch.cat([past, past], dim=1), weight, bias)
    if frames > 1:
        got = products.causal_conv(x, past, weight, bias, stride=2)
        torch.testing.assert_close(got.double(), whole[:, 1::2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_in_is_half_precision_out(kind: torch.dtype) -> None:
    x, weight, bias = (value.to(kind) for value in operands(4, 3))
    close = {"atol": 16 * torch.finfo(kind).eps, "rtol": 4 * torch.finfo(kind).eps}
    got = products.causal_conv(x, None, weight, bias)
    assert got.dtype == kind
    torch.testing.assert_close(got.double(), expected(x, None, weight, bias), **close)
    pixels = products.linear(x, weight[:, :, 0], bias)
    assert pixels.dtype == kind
    torch.testing.assert_close(pixels.double(), F.linear(x.double(), weight[:, :, 0].double(), bias.double()), **close)


def test_before_runs_on_every_frame_whichever_way_is_taken() -> None:
    weight, bias = torch.randn(48, 48, 3, 3) / 20, torch.randn(48)
    for size in (8, 40):  # below and above what Winograd takes
        x = torch.randn(2, 48, size, size)
        whole = F.conv2d(x * 2 + 1, weight, bias, padding=1)
        got = products.conv2d(x, weight, bias, padding=1, before=lambda frames: frames * 2 + 1)
        torch.testing.assert_close(got, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2])
def test_last_frames_reach_into_the_past(frames: int, count: int) -> None:
    x, past = torch.randn(1, frames, 2, 2, 3), torch.randn(1, 2, 2, 2, 3)
    assert torch.equal(last_frames(x, past, count), torch.cat([past, x], dim=1)[:, -count:])
    first = x[:, :1].expand(-1, 2, -1, -1, -1)
    assert torch.equal(last_frames(x, None, count), torch.cat([first, x], dim=1)[:, -count:])


@pytest.mark.parametrize("goes_on", [False, True], ids=["start", "goes on"])
def test_under_autocast_products_have_its_dtype_and_results_the_operands(goes_on: bool) -> None:
    x, weight, bias = operands(4, 3)
    past = torch.randn(2, 2, 3, 4, 6) if goes_on else None
    frames, kernel, offset = torch.randn(2, 48, 40, 40), torch.randn(48, 48, 3, 3) / 20, torch.randn(48)

    def made() -> list[torch.Tensor]:
        taps = products.causal_conv(x, past, weight, bias)
        return [taps, products.linear(x, weight[:, :, 0], bias), products.conv2d(frames, kernel, offset, padding=1)]

    exact = made()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made()
    for got, wanted in zip(rounded, exact, strict=True):
        assert got.dtype == torch.float32
        assert not torch.equal(got, wanted)
        torch.testing.assert_close(got, wanted, atol=0.1, rtol=0)
