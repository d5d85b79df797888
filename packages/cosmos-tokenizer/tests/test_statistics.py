"""Latent statistics: the formula, short and long clips, and float32 beside any dtype."""

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, LatentStatistics


def statistics(channels: int = 4, frames: int = 16) -> LatentStatistics:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(channels, frames, generator=generator)
    return LatentStatistics(mean, torch.rand(channels, frames, generator=generator) + 0.5)


@pytest.mark.parametrize("frames", [1, 3, 16, 21])
def test_normalize_is_the_formula_with_the_last_row_held(frames: int) -> None:
    known = statistics()
    z = torch.randn(2, 4, frames, 3, 5)
    out = known.normalize(z)
    for t in range(frames):
        row = min(t, 15)
        expected = (z[:, :, t] - known.mean[None, :, row, None, None]) / known.std[None, :, row, None, None]
        torch.testing.assert_close(out[:, :, t], expected)
    torch.testing.assert_close(known.denormalize(out), z)


def test_statistics_stay_float32_when_the_model_is_cast() -> None:
    known = statistics()
    model = CausalTokenizer(PRESETS["toy"], statistics=known)
    before = known.mean.clone()
    model.to(torch.bfloat16)
    assert known.mean.dtype == torch.float32
    assert torch.equal(known.mean, before)
    assert model.normalize(torch.randn(1, 4, 2, 2, 2).bfloat16()).dtype == torch.bfloat16


def test_a_model_without_statistics_says_so() -> None:
    with pytest.raises(InputError, match="no latent statistics"):
        CausalTokenizer(PRESETS["toy"]).normalize(torch.zeros(1, 4, 1, 2, 2))
