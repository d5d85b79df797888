"""PSNR and SSIM against their definitions and against scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cosmos_tokenizer.metrics import finite_mean, psnr_per_frame, psnr_per_video, ssim_per_frame


def _pair(shape: tuple[int, ...], spread: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(0, 256, shape, generator=generator)
    b = (a + torch.randint(-spread, spread + 1, shape, generator=generator)).clamp(0, 255)
    return a.to(torch.uint8), b.to(torch.uint8)


@pytest.mark.parametrize(("height", "width", "spread"), [(33, 47, 3), (7, 7, 20), (16, 64, 120), (21, 9, 255)])
def test_both_metrics_equal_scikit_image(height: int, width: int, spread: int) -> None:
    a, b = _pair((3, height, width, 3), spread)
    for x, y, psnr, ssim in zip(a.numpy(), b.numpy(), psnr_per_frame(a, b), ssim_per_frame(a, b), strict=True):
        assert abs(psnr.item() - peak_signal_noise_ratio(x, y, data_range=255)) < 1e-9
        assert abs(ssim.item() - structural_similarity(x, y, data_range=255, channel_axis=-1)) < 1e-6


def test_smooth_frames_keep_their_precision_in_ssim() -> None:
    x = np.tile(np.linspace(200, 201, 40), (40, 1))[..., None].repeat(3, 2)
    y = x + 1e-3 * np.random.default_rng(0).standard_normal(x.shape)
    ours = ssim_per_frame(torch.from_numpy(x)[None], torch.from_numpy(y)[None], data_range=255.0).item()
    assert abs(ours - structural_similarity(x, y, data_range=255, channel_axis=-1)) < 1e-6


def test_eight_bit_differences_do_not_wrap_around() -> None:
    black, white = torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
    assert psnr_per_video(black, white) == 0.0
    assert psnr_per_frame(black, white).item() == 0.0
    assert psnr_per_video(black + 100, black + 116) == pytest.approx(20 * math.log10(255 / 16))


def test_the_two_psnr_definitions_differ_as_defined() -> None:
    a = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    b = a.clone()
    b[0], b[1] = 1, 10
    decibel = [20 * math.log10(255), 20 * math.log10(25.5)]
    assert psnr_per_frame(a, b).tolist() == pytest.approx(decibel)
    assert psnr_per_video(a, b) == pytest.approx(10 * math.log10(255**2 / 50.5))
    assert psnr_per_video(a, b) < sum(decibel) / 2


def test_floats_in_minus_one_to_one_score_as_their_eight_bit_twins() -> None:
    a, b = _pair((2, 19, 23, 3), 9)
    x, y = a / 127.5 - 1, b / 127.5 - 1
    assert psnr_per_video(x, y, data_range=2.0) == pytest.approx(psnr_per_video(a, b), abs=1e-4)


def test_identical_frames_are_infinite_and_leave_the_mean_finite() -> None:
    a, b = _pair((3, 9, 9, 3), 4)
    b[1] = a[1]
    frames = psnr_per_frame(a, b)
    assert math.isinf(frames[1])
    assert finite_mean(frames.tolist()) == pytest.approx(float(frames[[0, 2]].mean()))
    assert math.isinf(finite_mean(psnr_per_frame(a, a).tolist()))
    assert ssim_per_frame(a, a).tolist() == pytest.approx([1.0] * 3)


def test_a_float_range_is_never_guessed() -> None:
    with pytest.raises(ValueError, match="data_range is unknown for torch.float32"):
        psnr_per_video(torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8, 3))


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\) and \(1, 8, 9, 3\)"):
        psnr_per_frame(torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 9, 3), data_range=2.0)


def test_frames_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 7x7, not 6x20"):
        ssim_per_frame(torch.zeros(1, 6, 20, 3), torch.zeros(1, 6, 20, 3), data_range=2.0)
