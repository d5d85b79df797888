"""Blur, blocks, noise and colour: each answers to its own distortion, in proportion, and not to a clean picture."""

import itertools

import cv2
import numpy as np
import pytest

from cosmos_curate.quality.blocking import blockiness
from cosmos_curate.quality.blur import edge_widths, soft_share
from cosmos_curate.quality.colour import colorfulness, luma
from cosmos_curate.quality.noise import noise_deviation


def rising(values):
    return all(one < other for one, other in itertools.pairwise(values))


def disks(height=240, width=320):
    """A picture with edges in all directions."""
    frame = np.full((height * 4, width * 4), 60, np.uint8)
    rng = np.random.default_rng(0)
    for level in rng.integers(0, 255, 40):
        centre = (int(rng.integers(0, width * 4)), int(rng.integers(0, height * 4)))
        cv2.circle(frame, centre, int(rng.integers(60, 200)), int(level), -1)
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


@pytest.mark.parametrize("deviation", [1.0, 2.0, 4.0])
def test_width_of_an_edge_is_the_deviation_of_its_blur(deviation):
    widths = edge_widths(cv2.GaussianBlur(disks(), (0, 0), deviation))
    assert np.median(widths) == pytest.approx(deviation, rel=0.15)


def test_more_blur_makes_more_edges_soft():
    shares = [soft_share(cv2.GaussianBlur(disks(), (0, 0), deviation)) for deviation in (0.3, 1.3, 1.6, 3)]
    assert rising(shares)
    assert shares[0] < 0.05
    assert shares[-1] > 0.95


def test_the_larger_the_picture_the_wider_a_sharp_edge_may_be():
    large = cv2.GaussianBlur(disks(1080, 1440), (0, 0), 1.5)
    assert soft_share(large) < 0.1
    assert soft_share(np.ascontiguousarray(large[:720])) > 0.8
    assert soft_share(cv2.GaussianBlur(large, (0, 0), 1.8)) > 0.8


def test_a_picture_without_an_edge_is_soft():
    assert soft_share(np.full((16, 16), 90, np.float32)) == 1.0


def blocks(picture, quality, seed=0):
    frame = picture(240, 320, seed)
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_coarser_coding_has_stronger_blocks(picture):
    found = [blockiness(luma(blocks(picture, quality))[None]) for quality in (30, 12, 4)]
    assert rising(found)
    assert found[0] > 0.3


@pytest.mark.parametrize("seed", range(4))
def test_clean_noisy_and_blurred_pictures_have_no_blocks(picture, seed):
    clean = luma(picture(240, 320, seed))
    noise = np.random.default_rng(seed).normal(0, 10, clean.shape).astype(np.float32)
    for one in (clean, clean + noise, cv2.GaussianBlur(clean, (0, 0), 2), disks()):
        assert blockiness(one[None]) < 0.1


@pytest.mark.parametrize(("left", "top", "width"), [(3, 5, 320), (0, 0, 480), (0, 0, 426)])
def test_blocks_are_found_after_cropping_and_scaling(picture, left, top, width):
    coded = blocks(picture, 8)
    scaled = cv2.resize(coded, (width, width * 3 // 4), interpolation=cv2.INTER_LINEAR)[top:, left:]
    assert blockiness(luma(scaled)[None]) > 0.5


def test_blocks_of_a_small_picture_are_not_sought():
    assert blockiness(np.random.default_rng(0).uniform(0, 255, (2, 16, 16)).astype(np.float32)) == 0.0


@pytest.mark.parametrize("deviation", [3.0, 10.0])
def test_noise_is_measured_in_levels(deviation):
    smooth = cv2.GaussianBlur(disks(), (0, 0), 1.5)
    noise = np.random.default_rng(0).normal(0, deviation, smooth.shape).astype(np.float32)
    assert noise_deviation(smooth) < 0.3
    assert noise_deviation(smooth + noise) == pytest.approx(deviation, rel=0.15)


def test_colorfulness_is_nought_for_gray_and_rises_with_saturation(picture):
    frame = picture(64, 80)
    gray = np.repeat(luma(frame).round().astype(np.uint8)[..., None], 3, 2)
    half = ((frame.astype(np.float32) + gray) / 2).astype(np.uint8)
    assert colorfulness(gray) == colorfulness(gray[..., :1]) == 0.0
    assert rising([colorfulness(gray), colorfulness(half), colorfulness(frame)])


def test_colorfulness_is_the_formula_of_the_paper():
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0] = 200, 100, 40
    rg, yb = np.array([100, 0, 0, 0]), np.array([110, 0, 0, 0])
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert colorfulness(frame) == pytest.approx(expected)
