"""BRISQUE: its numbers are those of the package that the weights come from, and degenerate pictures have one."""

import importlib.metadata
import math

import numpy as np
import pytest

from cosmos_curate.models.cache import sha256
from cosmos_curate.quality.brisque import WEIGHTS, brisque, features, fit, load_regression
from cosmos_curate.quality.colour import luma


def test_scores_are_those_of_the_package(picture):
    """Within 0.05: its shapes come from a root finder, ours from a table of steps of 0.001, and it works in float64."""
    package = pytest.importorskip("brisque", reason="the package brisque is not installed")
    reference = package.BRISQUE()
    scale = reference.scale_features
    reference.scale_features = lambda found: scale([np.ravel(one)[0] for one in found])
    regression = load_regression()
    for seed, (height, width) in enumerate([(120, 160), (97, 131), (64, 64)]):
        frame = picture(height, width, seed)
        if seed == 1:
            frame = np.clip(frame + np.random.default_rng(1).normal(0, 12, frame.shape), 0, 255).astype(np.uint8)
        assert brisque(luma(frame), regression) == pytest.approx(reference.score(frame), abs=0.05)


@pytest.mark.parametrize(
    ("seed", "size", "score"), [(0, (120, 160), 90.92487), (1, (97, 131), 80.72698), (2, (64, 64), 44.81971)]
)
def test_scores_are_those_that_the_package_gave(seed, size, score):
    """brisque 0.2.0 with numpy 2.4.6, on frames made of whole numbers alone, which are the same everywhere."""
    steps = np.random.default_rng(seed).integers(-9, 10, (2, *size, 3))
    waves = steps[0].cumsum(0) + steps[1].cumsum(1)
    frame = (128 + 90 * waves // np.abs(waves).max()).astype(np.uint8)
    assert brisque(luma(frame), load_regression()) == pytest.approx(score, abs=0.05)


def test_weights_are_the_ones_described():
    text = WEIGHTS.with_suffix(".md").read_text()
    assert sha256(WEIGHTS) in text


def test_weights_are_all_of_the_package():
    try:
        files = importlib.metadata.files("brisque") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package brisque is not installed")
    path = next(file.locate() for file in files if file.name == "svm.txt")
    rows = [line.split() for line in path.read_text().split("SV\n")[1].splitlines()]
    regression = load_regression()
    np.testing.assert_array_equal(regression.coefficients, [float(row[0]) for row in rows])
    vectors = [[float(cell.split(":")[1]) for cell in row[1:]] for row in rows]
    np.testing.assert_allclose(regression.vectors, vectors, rtol=1e-7)


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_fit_finds_the_shape_and_the_sides_of_a_distribution(shape):
    rng = np.random.default_rng(0)
    side = rng.gamma(1 / shape, 1, (600, 600)) ** (1 / shape)
    right = rng.random((600, 600)) < 2 / 3
    values = np.where(right, 2 * side, -side).astype(np.float32)
    found, mean, left_variance, right_variance = fit(values)
    unit = math.gamma(3 / shape) / math.gamma(1 / shape)
    assert found == pytest.approx(shape, rel=0.03)
    assert left_variance == pytest.approx(unit, rel=0.05)
    assert right_variance == pytest.approx(4 * unit, rel=0.05)
    assert mean == pytest.approx(math.gamma(2 / shape) / math.gamma(1 / shape), rel=0.05)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_and_tiny_pictures_have_finite_numbers(level):
    flat = np.full((16, 16), level, np.float32)
    assert np.isfinite(features(flat)).all()
    assert math.isfinite(brisque(flat, load_regression()))
    tiny = np.random.default_rng(level).uniform(0, 255, (16, 17)).astype(np.float32)
    assert math.isfinite(brisque(tiny, load_regression()))
