"""The Fréchet distance against closed forms and scipy, sums in a stream, and the bootstrap interval."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm  # scikit-image brings scipy

from cosmos_tokenizer import InputError
from cosmos_tokenizer.metrics import FeatureStatistics, bootstrap_interval, frechet_distance, sample_warning


def _statistics(features: torch.Tensor, *cuts: int) -> FeatureStatistics:
    statistics = FeatureStatistics()
    for piece in features.tensor_split(list(cuts)):
        statistics.update(piece)
    return statistics


def _features(count: int, dimension: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64) @ mixing + mixing[0]


def _exactly(mean: torch.Tensor, root: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Samples whose own mean and covariance are `mean` and `root root^T`, up to rounding."""
    x = _features(count, len(mean), seed)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (count - 1)), x.T, upper=False)
    return (root @ white).T + mean


def test_gaussians_of_diagonal_covariance_have_the_closed_form() -> None:
    m1, m2 = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 2.0, 0.5])
    s1, s2 = torch.tensor([4.0, 9.0, 0.0]), torch.tensor([1.0, 16.0, 2.25])
    expected = (1 + 16 + 0) + (1 + 1 + 2.25)
    assert frechet_distance(m1, s1.diag(), m2, s2.diag()) == pytest.approx(expected, rel=1e-12)


def test_fvd_of_samples_of_two_known_gaussians_is_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(3)
    roots = [torch.randn(2, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    means = [torch.tensor([0.0, 1.0], dtype=torch.float64), torch.tensor([2.0, -1.0], dtype=torch.float64)]
    s1, s2 = (root @ root.T for root in roots)
    # In two dimensions (tr sqrt M)^2 = tr M + 2 sqrt(det M).
    trace = math.sqrt(float((s1 @ s2).trace()) + 2 * math.sqrt(float(s1.det() * s2.det())))
    expected = 8 + float(s1.trace() + s2.trace()) - 2 * trace
    a, b = (_exactly(mean, root, 50, seed) for seed, (mean, root) in enumerate(zip(means, roots, strict=True)))
    assert _statistics(a, 7).distance(_statistics(b, 1, 30)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("count", "dimension"), [(100, 1), (60, 17), (300, 40)])
def test_the_distance_equals_that_of_scipy(count: int, dimension: int) -> None:
    a, b = _features(count, dimension, 1), _features(count + 9, dimension, 2)
    x, y = a.numpy(), b.numpy()
    s1, s2 = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert _statistics(a).distance(_statistics(b)) == pytest.approx(expected, rel=1e-9)
    assert _statistics(b).distance(_statistics(a)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("count", "dimension"), [(200, 30), (12, 30), (2, 30)])
def test_a_set_is_at_no_distance_from_itself_even_where_it_is_singular(count: int, dimension: int) -> None:
    a = _features(count, dimension)
    scale = float(a.var(0).sum())
    assert 0 <= _statistics(a).distance(_statistics(a.flip(0), 1)) < 1e-11 * scale


def test_a_shift_of_a_singular_set_is_the_squared_shift() -> None:
    a = _features(5, 30)
    assert _statistics(a).distance(_statistics(a + 0.1)) == pytest.approx(30 * 0.01, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_pieces_and_merged_parts_are_the_mean_and_covariance_of_the_whole(dtype: torch.dtype) -> None:
    x = (_features(101, 6) + 1e3).to(dtype)
    streamed = _statistics(x, 1, 2, 40, 99)
    merged, rest = _statistics(x[:33], 5), _statistics(x[33:])
    merged.merge(FeatureStatistics())
    merged.merge(rest)
    empty = FeatureStatistics()
    empty.merge(merged)
    expected = np.cov(x.double().numpy().T)
    for statistics in (streamed, merged, empty):
        assert (statistics.count, statistics.dimension) == (101, 6)
        torch.testing.assert_close(statistics.mean, x.double().mean(0), rtol=1e-13, atol=0)
        np.testing.assert_allclose(statistics.covariance.numpy(), expected, rtol=1e-9, atol=1e-10 * expected.max())
    assert rest.count == 68


def test_sums_begun_in_inference_mode_go_on_outside() -> None:
    statistics, x = FeatureStatistics(), _features(10, 3)
    with torch.inference_mode():
        statistics.update(x[:4] + 0)
    statistics.update(x[4:])
    torch.testing.assert_close(statistics.mean, x.mean(0))


@pytest.mark.parametrize("cut", [0, 4, 10])
def test_a_piece_without_samples_changes_nothing(cut: int) -> None:
    x = _features(10, 3)
    statistics, whole = _statistics(x, cut, cut), _statistics(x)
    assert statistics.count == 10
    torch.testing.assert_close(statistics.mean, whole.mean)
    torch.testing.assert_close(statistics.covariance, whole.covariance)


def test_features_that_cannot_be_compared_are_refused_in_one_line() -> None:
    statistics = _statistics(_features(5, 3))
    with pytest.raises(InputError, match="features of 3 and of 4 numbers"):
        statistics.update(_features(5, 4))
    with pytest.raises(InputError, match="features of 3 and of 4 numbers"):
        statistics.distance(_statistics(_features(5, 4)))
    with pytest.raises(InputError, match="not finite"):
        statistics.update(torch.full((1, 3), math.nan))
    with pytest.raises(InputError, match="1 samples have no covariance"):
        statistics.distance(_statistics(_features(1, 3)))
    with pytest.raises(InputError, match="1 samples have no interval"):
        bootstrap_interval(_features(1, 3), _features(1, 3))
    assert statistics.count == 5


def test_few_samples_are_warned_of() -> None:
    assert "covariance is singular" in str(sample_warning(400, 400, customary=2048))
    assert "2048 are customary" in str(sample_warning(401, 400, customary=2048))
    assert sample_warning(2048, 400, customary=2048) is None


@pytest.mark.parametrize(("count", "dimension"), [(40, 3), (12, 20), (30, 20)])
def test_an_interval_is_that_of_resampled_pairs(count: int, dimension: int) -> None:
    a = _features(count, dimension, 1)
    b = a + 0.5 * _features(count, dimension, 2)
    heard = []
    found = bootstrap_interval(a, b, resamples=20, level=0.8, seed=7, done=heard.append)
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for _ in range(20):
        rows = torch.randint(count, (count,), generator=generator)
        drawn.append(_statistics(a[rows]).distance(_statistics(b[rows])))
    bias = np.mean(drawn) - _statistics(a).distance(_statistics(b))
    assert found.bias == pytest.approx(bias, rel=1e-6)
    assert (found.low, found.high) == pytest.approx(np.quantile(np.array(drawn) - bias, [0.1, 0.9]).tolist(), rel=1e-6)
    assert sum(heard) == found.resamples == 20
    assert found == bootstrap_interval(a, b, resamples=20, level=0.8, seed=7)
    assert found != bootstrap_interval(a, b, resamples=20, level=0.8, seed=8)


def test_an_interval_is_as_wide_as_the_figure_varies_with_other_samples() -> None:
    def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        source = torch.Generator().manual_seed(seed)
        a = torch.randn(150, 3, generator=source, dtype=torch.float64)
        return a, a * 0.5 + 0.7 + 0.1 * torch.randn(150, 3, generator=source, dtype=torch.float64)

    figures = [_statistics(a).distance(_statistics(b)) for a, b in map(pair, range(200))]
    low, high = np.quantile(figures, [0.025, 0.975])
    widths = [found.high - found.low for found in (bootstrap_interval(*pair(seed)) for seed in range(8))]
    assert np.mean(widths) == pytest.approx(high - low, rel=0.25)


def test_few_samples_of_one_gaussian_show_a_bias_upwards() -> None:
    a, b = _features(60, 20, 1), torch.randn(60, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = bootstrap_interval(a, b, resamples=20)
    assert found.bias > 0
    assert found.low <= _statistics(a).distance(_statistics(b)) <= found.high
