"""Use of a codebook, counted in a stream."""

import math

import numpy as np
import pytest
import torch

from cosmos_tokenizer import InputError
from cosmos_tokenizer.metrics import CodeUsage, codes


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_usage_and_entropy_are_those_of_the_histogram(
    dtype: torch.dtype, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "_CHUNK", chunk)
    indices = torch.randint(0, 40, (2, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(dtype) % 31
    usage = CodeUsage((4, 3, 5))
    for piece in indices.split(1):
        usage.update(piece)
    counts = np.bincount(indices.numpy().ravel(), minlength=60)
    shares = counts[counts > 0] / counts.sum()
    bits = -(shares * np.log2(shares)).sum()
    assert usage.total == 210
    assert usage.usage == (counts > 0).sum() / 60
    assert usage.entropy_bits == pytest.approx(bits, rel=1e-12)
    assert usage.perplexity == pytest.approx(2**bits, rel=1e-12)


def test_an_even_stream_has_all_codes_as_perplexity_and_a_constant_one_has_1() -> None:
    even, constant = CodeUsage((8, 8)), CodeUsage((8, 8))
    even.update(torch.arange(64).repeat(3))
    constant.update(torch.full((5,), 63))
    assert (even.usage, even.entropy_bits, even.perplexity) == (1.0, pytest.approx(6), pytest.approx(64))
    assert (constant.usage, constant.entropy_bits, constant.perplexity) == (1 / 64, 0.0, 1.0)


def test_parts_merge_as_if_counted_together() -> None:
    indices = torch.randint(0, 6, (50,), generator=torch.Generator().manual_seed(1))
    whole, left, right = CodeUsage((6,)), CodeUsage((6,)), CodeUsage((6,))
    whole.update(indices)
    left.update(indices[:20])
    with torch.inference_mode():
        right.update(indices[20:])
    left.merge(right)
    assert (left.total, left.entropy_bits) == (50, whole.entropy_bits)
    with pytest.raises(InputError, match="6 and of 7 codes"):
        left.merge(CodeUsage((7,)))


def test_nothing_counted_is_nothing_used() -> None:
    usage = CodeUsage((6,))
    usage.update(torch.zeros(0, dtype=torch.int32))
    assert (usage.total, usage.usage, usage.entropy_bits) == (0, 0.0, 0.0)
    assert math.isfinite(usage.perplexity)


@pytest.mark.parametrize(("index", "named"), [(-1, "index -1"), (60, "index 60")])
def test_an_index_outside_the_codebook_is_named(index: int, named: str) -> None:
    with pytest.raises(InputError, match=rf"{named} is out of range: this codebook has 0 \.\.\. 59"):
        CodeUsage((4, 3, 5)).update(torch.tensor([3, index]))
