"""The embedding's parts: projection, the centre without photographs, time, and length."""

import hashlib

import numpy as np
import pytest
import torch

from cosmos_curate.content.embedding import SHARP_SHARE, SHARP_WIDTH, SIZE, WIDTHS, embed, projection, sharp_frames
from cosmos_curate.content.network import expected_relu6

SOFT_WIDTH = sum(WIDTHS)


def features(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, SIZE)).astype(np.float32)


def test_the_projection_is_the_same_everywhere() -> None:
    digest = hashlib.sha256(projection(1280).astype("<f4").tobytes()).hexdigest()
    assert digest == "8fb572a13d2986b656a31c17389ab7f6faa047dd8c608bc349e5f55aa643bdf6"


def test_the_projection_about_keeps_cosines() -> None:
    rng = np.random.default_rng(0)
    matrix = projection(1280)
    one = rng.normal(size=1280)
    for cosine in (0.0, 0.5, 0.9, 0.99):
        other = rng.normal(size=1280)
        other -= one * (one @ other) / (one @ one)
        other = cosine * one / np.linalg.norm(one) + (1 - cosine**2) ** 0.5 * other / np.linalg.norm(other)
        for start, width in ((0, WIDTHS[0]), (SOFT_WIDTH, SHARP_WIDTH)):
            a, b = (vector @ matrix[:, start : start + width] for vector in (one, other))
            found = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert found == pytest.approx(cosine, abs=4 * (1 - cosine**2) / width**0.5 + 1e-6)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-1.5, 0.5), (2.0, 3.0), (5.5, 1.0), (-3.0, 0.01)])
def test_the_expected_activation_is_that_of_many_draws(mean: float, deviation: float) -> None:
    draws = np.random.default_rng(0).normal(mean, deviation, 400_000)
    found = expected_relu6(torch.tensor([mean]).double(), torch.tensor([deviation]).double()).item()
    assert found == pytest.approx(np.clip(draws, 0, 6).mean(), abs=0.01)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 20])
def test_an_embedding_has_length_one_and_its_sharp_share(frames: int) -> None:
    found = embed(features(frames), features(1, 1)).astype(np.float64)
    assert found @ found == pytest.approx(1, abs=2e-3)
    assert found[SOFT_WIDTH:] @ found[SOFT_WIDTH:] == pytest.approx(SHARP_SHARE, abs=2e-3)


def test_a_still_clip_has_no_differences_in_time_and_one_played_backwards_has_the_first_negated() -> None:
    still = embed(np.repeat(features(1), 6, 0), features(1, 1))
    assert (np.abs(still[WIDTHS[0] : SOFT_WIDTH]) < 1e-3).all()
    clip = features(6)
    one, other = embed(clip, clip[:1]), embed(clip[::-1], clip[:1])
    first = slice(WIDTHS[0], WIDTHS[0] + WIDTHS[1])
    assert np.allclose(one[first], -other[first], atol=1e-3)
    assert np.allclose(np.delete(one, np.r_[first]), np.delete(other, np.r_[first]), atol=1e-3)


def test_the_cosine_is_that_of_the_three_parts_of_time() -> None:
    """With equal columns for all three, the transform turns the joined thirds and changes no angle."""
    rng = np.random.default_rng(3)
    clips = []
    for _ in range(2):
        base = rng.normal(size=(6, 128))
        rows = np.zeros((6, SIZE), np.float32)
        rows[:, :128] = rows[:, 256:384] = rows[:, 384:512] = base
        clips.append((rows, base))
    thirds = [base.reshape(3, 2, 128).mean(1).ravel() for _, base in clips]
    expected = thirds[0] @ thirds[1] / np.linalg.norm(thirds[0]) / np.linalg.norm(thirds[1])
    one, other = (embed(rows, features(1)).astype(np.float64)[:SOFT_WIDTH] for rows, _ in clips)
    assert one @ other / (1 - SHARP_SHARE) == pytest.approx(expected, abs=2e-3)


def test_nothing_at_all_gives_zeros_and_no_warning() -> None:
    assert (embed(np.zeros((2, SIZE), np.float32), np.zeros((1, SIZE), np.float32)) == 0).all()


@pytest.mark.parametrize(("count", "which"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (6, [1, 3, 5]), (5, [0, 2, 4])])
def test_sharp_frames_are_the_middle_of_each_third(count: int, which: list[int]) -> None:
    assert sharp_frames(count) == which
