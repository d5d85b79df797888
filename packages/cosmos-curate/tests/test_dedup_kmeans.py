"""Spherical k-means and products: faiss and torch agree, equal seeds give equal bits, no cluster is left empty."""

import numpy as np
import pytest

from cosmos_curate.dedup.kmeans import fit, lloyd, nearest_two, unit
from cosmos_curate.dedup.products import best
from cosmos_curate.errors import InputError

TORCH = "cpu:0"
"""A CPU by torch's name: the path of a GPU."""


def clustered(count: int = 2000, dimensions: int = 24, clusters: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(clusters, dimensions))
    return unit((centers[rng.integers(clusters, size=count)] + 0.2 * rng.normal(size=(count, dimensions))).astype("f4"))


def mean_cosine(rows: np.ndarray, centroids: np.ndarray) -> float:
    return float((rows @ centroids.T).max(1).mean())


@pytest.mark.parametrize("device", ["cpu", TORCH])
def test_centroids_are_unit_repeatable_and_near_their_rows(device: str):
    rows = clustered()
    first, second = (fit(rows, 30, iterations=15, seed=3, device=device) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert fit(rows, 30, iterations=15, seed=4, device=device).tobytes() != first.tobytes()
    assert mean_cosine(rows, first) > 0.8


def test_torch_is_as_good_as_faiss():
    rows = clustered(clusters=40)
    ours = np.mean([mean_cosine(rows, lloyd(rows, 40, iterations=20, seed=s, device="cpu")) for s in range(4)])
    faiss = np.mean([mean_cosine(rows, fit(rows, 40, iterations=20, seed=s)) for s in range(4)])
    assert ours > faiss - 0.01


def test_torch_takes_the_steps_of_the_definition():
    rows = clustered(300, 6, 5)
    centroids = rows[np.random.default_rng(1).choice(300, 7, replace=False)].astype(np.float64)
    for _ in range(4):
        nearest = (rows @ centroids.T).argmax(1)
        assert set(nearest) == set(range(7))
        sums = np.stack([rows[nearest == index].astype(np.float64).sum(0) for index in range(7)])
        centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(lloyd(rows, 7, iterations=4, seed=1, device="cpu"), centroids, atol=1e-5)


def test_clusters_that_lose_their_rows_take_the_farthest_ones():
    rows = unit(np.repeat(np.eye(4, dtype=np.float32), 5, axis=0) + np.float32(0))
    centroids = lloyd(rows, 6, iterations=6, seed=0, device="cpu")
    assert mean_cosine(rows, centroids) == pytest.approx(1)


def test_more_clusters_than_rows_is_refused():
    with pytest.raises(InputError, match="clusters is 9"):
        fit(clustered(8), 9)


def test_two_nearest_on_both():
    rows, centroids = clustered(500), clustered(40, seed=1)
    cosines = rows @ centroids.T
    order = np.argsort(-cosines, axis=1)[:, :2]
    for device in ("cpu", TORCH):
        indices, values = nearest_two(rows, centroids, device=device)
        np.testing.assert_array_equal(indices, order)
        np.testing.assert_allclose(values, np.take_along_axis(cosines, order, 1), rtol=1e-6)


@pytest.mark.parametrize("device", ["cpu", TORCH])
def test_best_is_the_first_largest_cosine_of_smaller_rank(device: str):
    rows = unit(np.random.default_rng(2).integers(-1, 2, (60, 3)).astype(np.float32))
    queries, keys = np.arange(10, 47), np.arange(0, 60, 3)
    cosines = rows[queries] @ rows[keys].T
    cosines[keys[None] >= queries[:, None]] = -2
    value, rank = best(rows[queries], rows[keys], queries, keys, device=device)
    np.testing.assert_allclose(value, cosines.max(1), atol=1e-6)
    assert all(cosines[at, list(keys).index(found)] >= cosines[at].max() - 1e-6 for at, found in enumerate(rank))
    none = best(rows[:4], rows[4:9], np.arange(4), np.arange(4, 9), device=device)
    assert none[0].tolist() == [-2] * 4
    assert none[1].tolist() == [-1] * 4


def test_equal_cosines_go_to_the_smallest_rank_on_both():
    keys = np.tile(np.eye(2, dtype=np.float32), (5, 1))
    for device in ("cpu", TORCH):
        found = best(keys[:2], keys, np.array([50, 51]), np.arange(10), device=device)
        assert found[1].tolist() == [0, 1]
