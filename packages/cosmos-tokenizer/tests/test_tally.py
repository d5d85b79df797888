"""Figures added up piece by piece are those of the whole clip."""

import math
import random

import numpy as np
import pytest
import torch

from cosmos_tokenizer.metrics import finite_mean, psnr_per_frame, psnr_per_video, ssim_per_frame
from cosmos_tokenizer.tally import Tally


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23)])
@pytest.mark.parametrize("seed", range(3))
def test_pieces_give_the_figures_of_the_whole(height: int, width: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    before = source.integers(0, 256, (13, height, width, 3), np.uint8)
    noise = source.integers(-40, 40, before.shape) * source.integers(0, 4, (13, 1, 1, 1))
    after = (before + noise).clip(0, 255).astype(np.uint8)
    after[5] = before[5]
    tally = Tally("a", samples=3, span=2)
    cuts = [0, *sorted(random.Random(seed).choices(range(14), k=3)), 13]
    for start, end in zip(cuts, cuts[1:], strict=False):
        if start < end:
            tally.add(before[start:end], after[start:end])
    x, y = torch.from_numpy(before), torch.from_numpy(after)
    psnr = psnr_per_frame(x, y)
    assert tally.frames == 13
    assert tally.identical_frames == int(psnr.isinf().sum()) >= 1
    assert tally.psnr_frame == pytest.approx(finite_mean(psnr.tolist()), abs=1e-9)
    assert tally.psnr_video == pytest.approx(psnr_per_video(x, y), abs=1e-9)
    assert tally.ssim == pytest.approx(float(ssim_per_frame(x, y).mean()), abs=1e-9)
    spans = [(float(psnr[i : i + 2].min()), i + int(psnr[i : i + 2].argmin())) for i in range(0, 13, 2)]
    expected = sorted(sorted(spans)[:3], key=lambda pair: pair[1])
    assert [(s.label, s.psnr) for s in tally.worst] == [
        (f"a, frame {index}", pytest.approx(value, abs=1e-9)) for value, index in expected
    ]
    for sample, (_, index) in zip(tally.worst, expected, strict=True):
        assert np.array_equal(sample.before, before[index])
        assert np.array_equal(sample.after, after[index])


def test_a_clip_without_any_error_is_infinitely_good() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    tally = Tally("a", samples=2, span=1)
    tally.add(frames, frames.copy())
    assert math.isinf(tally.psnr_frame)
    assert math.isinf(tally.psnr_video)
    assert tally.ssim == pytest.approx(1.0)
    assert len(tally.worst) == 2


def test_only_the_worst_are_kept_however_long_the_clip_is() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    tally = Tally("a", samples=2, span=1)
    for level in (9, 3, 7, 1, 8, 2):
        tally.add(frames, (frames + np.uint8(level)))
        assert len(tally._worst) <= 2
    assert len(tally.worst) == 2
