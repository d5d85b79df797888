"""Winograd convolution against float64: sizes that fill no tile, every dtype, and when it is taken."""

import pytest
import torch
import torch.nn.functional as F

from cosmos_tokenizer import products, winograd


def operands(channels: int, outputs: int, size: tuple[int, int], count: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, *size, generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return x, weight, torch.randn(outputs, generator=generator)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (16, 9), (33, 12)])
@pytest.mark.parametrize("widths", [(48, 64), (96, 48), (160, 160)])
def test_result_is_as_exact_as_a_direct_convolution(size: tuple[int, int], widths: tuple[int, int]) -> None:
    x, weight, bias = operands(*widths, size)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    error = (winograd.conv2d(x, weight, bias, 1) - exact).abs().max()
    assert error < 2e-5
    assert winograd.conv2d(x, weight, bias, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_padding_stands_on_every_side(padding: int) -> None:
    x, weight, bias = operands(48, 48, (9, 10), count=1)
    expected = F.conv2d(x, weight, bias, padding=padding)
    torch.testing.assert_close(winograd.conv2d(x, weight, bias, padding), expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(kind: torch.dtype) -> None:
    x, weight, bias = (value.to(kind) for value in operands(64, 64, (11, 8)))
    expected = F.conv2d(x.float(), weight.float(), bias.float(), padding=1)
    got = winograd.conv2d(x, weight, bias, 1)
    assert got.dtype == kind
    torch.testing.assert_close(got.float(), expected, atol=3e-5, rtol=torch.finfo(kind).eps)


def test_wide_kernels_are_transformed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = operands(64, 64, (12, 12))
    whole = winograd.conv2d(x, weight, bias, 1)
    monkeypatch.setattr(winograd, "_KERNEL_BYTES", 5 * 4 * 64 * 64)
    monkeypatch.setattr(winograd, "_BLOCK", 1)
    torch.testing.assert_close(winograd.conv2d(x, weight, bias, 1), whole, atol=1e-5, rtol=0)


def test_it_is_left_alone_where_autograd_records_or_the_type_is_double() -> None:
    x, weight, bias = operands(48, 48, (32, 16))
    assert torch.equal(products.conv2d(x, weight, bias, padding=1), winograd.conv2d(x, weight, bias, 1))
    learnt = weight.clone().requires_grad_()
    products.conv2d(x, learnt, bias, padding=1).sum().backward()
    assert learnt.grad is not None
    assert not winograd.pays(x.double(), weight.double())
    assert not winograd.pays(x[:, :32], weight[:, :32])
    assert not winograd.pays(x[:1], weight)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("native", [False, True], ids=["emulated", "native"])
def test_half_precision_goes_through_it_only_where_the_cpu_has_no_instructions(
    kind: torch.dtype, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "emulated", lambda _: () if native else (kind,))
    taken = []
    conv2d = winograd.conv2d
    monkeypatch.setattr(winograd, "conv2d", lambda *given: taken.append(given) or conv2d(*given))
    x, weight, bias = operands(48, 48, (32, 16))
    assert products.conv2d(x.to(kind), weight.to(kind), bias.to(kind), padding=1).dtype == kind
    assert bool(taken) != native
    products.conv2d(x, weight, bias, padding=1)
    assert taken
