"""Finite scalar quantisation: published thresholds, round trips over the whole codebook, straight-through gradients."""

import math

import pytest
import torch

from cosmos_tokenizer import InputError, fsq
from cosmos_tokenizer.presets import FSQ_LEVELS

# Decision thresholds on z for 8 and for 5 levels, to five decimals.
EIGHT = (-1.42295, -0.79249, -0.43728, -0.14370, 0.14989, 0.50510, 1.13556)
FIVE = (-0.97124, -0.25515, 0.25515, 0.97124)


def latents(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(dtype)


def by_thresholds(z: torch.Tensor) -> torch.Tensor:
    columns = []
    for channel, levels in enumerate(FSQ_LEVELS):
        cuts = torch.tensor(EIGHT if levels == 8 else FIVE, dtype=torch.float64)
        steps = torch.bucketize(z[:, channel].double().contiguous(), cuts)
        columns.append((steps - levels // 2) / (levels // 2))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_codes_follow_the_published_thresholds(dtype: torch.dtype) -> None:
    z = latents(2, 6, 3, 5, 7, dtype=dtype)
    near = torch.stack([(z.double() - cut).abs() for cut in (*EIGHT, *FIVE)]).amin(0) < 2e-5
    codes = fsq.quantize(z, FSQ_LEVELS)
    assert codes.dtype == dtype
    assert torch.equal(codes.double()[~near], by_thresholds(z)[~near])


def test_every_index_survives_the_round_trip() -> None:
    indices = torch.arange(64000, dtype=torch.int32).view(1, 10, 80, 80)
    for dtype in (torch.float32, torch.bfloat16):
        codes = fsq.codes_of(indices, FSQ_LEVELS, dtype)
        back = fsq.indices_of(codes, FSQ_LEVELS)
        assert back.dtype == torch.int32
        assert torch.equal(back, indices)


def test_first_channel_is_the_least_significant_and_zero_is_32036() -> None:
    assert fsq.indices_of(fsq.quantize(torch.zeros(1, 6, 1, 1, 1), FSQ_LEVELS), FSQ_LEVELS).item() == 32036
    step = torch.zeros(1, 6, 1, 1, 1)
    step[:, 0] = 0.3
    assert fsq.indices_of(fsq.quantize(step, FSQ_LEVELS), FSQ_LEVELS).item() == 32037


def test_codes_of_indices_are_the_codes_that_gave_them() -> None:
    z = latents(1, 6, 2, 9, 4)
    codes = fsq.quantize(z, FSQ_LEVELS)
    assert torch.equal(fsq.codes_of(fsq.indices_of(codes, FSQ_LEVELS), FSQ_LEVELS), codes)


def test_eight_levels_are_not_symmetric() -> None:
    codes = fsq.quantize(torch.tensor([-9.0, 9.0]).view(1, 1, 2, 1, 1), (8,)).flatten().tolist()
    assert codes == [-1.0, 0.75]


def test_gradient_passes_the_rounding() -> None:
    z = latents(1, 6, 1, 4, 4, dtype=torch.float64).requires_grad_()
    fsq.quantize(z, FSQ_LEVELS).sum().backward()
    expected = torch.empty_like(z)
    for channel, levels in enumerate(FSQ_LEVELS):
        half = (levels - 1) * 1.001 / 2
        shift = math.atanh((0.5 if levels % 2 == 0 else 0.0) / half)
        expected[:, channel] = half * (1 - torch.tanh(z.detach()[:, channel] + shift) ** 2) / (levels // 2)
    torch.testing.assert_close(z.grad, expected)


@pytest.mark.parametrize("bad", [-1, 64000])
def test_an_index_out_of_range_is_named(bad: int) -> None:
    with pytest.raises(InputError, match=f"index {bad} is out of range.*63999"):
        fsq.codes_of(torch.tensor([[[[5, bad]]]]), FSQ_LEVELS)


def test_codes_come_with_their_indices() -> None:
    z = latents(2, 6, 3, 5, 7)
    codes, indices = fsq.codes_and_indices(z, FSQ_LEVELS)
    assert torch.equal(codes, fsq.quantize(z, FSQ_LEVELS))
    assert torch.equal(indices, fsq.indices_of(codes, FSQ_LEVELS))
