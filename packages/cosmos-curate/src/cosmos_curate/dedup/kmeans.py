"""Spherical k-means (arXiv 2303.09540, section 3): unit centroids, rows to the one of largest cosine.

faiss and numpy for device "cpu"; torch, by the same steps, for any other that it knows, a GPU or "cpu:0". Equal rows
and seed give equal centroids on one device.
"""

import numpy as np
from jaxtyping import Float32, Int32

from cosmos_curate.errors import InputError


def fit(
    rows: Float32[np.ndarray, "N D"], clusters: int, *, iterations: int = 20, seed: int = 0, device: str = "cpu"
) -> Float32[np.ndarray, "K D"]:
    """Return unit centroids of unit rows.

    Raises:
        InputError: fewer rows than clusters.
    """
    if len(rows) < clusters:
        raise InputError(f"clusters is {clusters}, more than the {len(rows)} clips; ask for fewer, or auto")
    if device != "cpu":
        return lloyd(rows, clusters, iterations=iterations, seed=seed, device=device)
    import faiss

    training = faiss.Kmeans(
        rows.shape[1],
        clusters,
        niter=iterations,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, len(rows)),
    )
    training.train(np.ascontiguousarray(rows))
    return unit(np.asarray(training.centroids, np.float32).reshape(clusters, -1))


def lloyd(
    rows: Float32[np.ndarray, "N D"], clusters: int, *, iterations: int, seed: int, device: str
) -> Float32[np.ndarray, "K D"]:
    """Do the same with torch: centroids start as rows drawn without repetition; one that gets no row takes the row
    that is farthest from its own."""
    import torch

    held = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
    start = np.random.default_rng(seed).choice(len(rows), clusters, replace=False)
    centroids = held[torch.from_numpy(start).to(device)].clone()
    block = max(1, 2**26 // clusters)
    for _ in range(iterations):
        best = [torch.max(part @ centroids.T, 1) for part in held.split(block)]
        cosine, nearest = torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])
        counts = torch.bincount(nearest, minlength=clusters)
        # Rows in order of cluster: additions scattered on a GPU come in any order, and differ from run to run.
        sums = torch.segment_reduce(held[torch.argsort(nearest, stable=True)], "sum", lengths=counts, unsafe=True)
        empty = torch.nonzero(counts == 0)[:, 0]
        if len(empty):
            sums[empty] = held[torch.argsort(cosine, stable=True)[: len(empty)]]
        centroids = torch.nn.functional.normalize(sums, dim=1)
    return unit(centroids.cpu().numpy())


def unit(rows: Float32[np.ndarray, "K D"]) -> Float32[np.ndarray, "K D"]:
    """Return the rows at length 1; a zero row becomes the first axis."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    out = np.where(length > 0, rows / np.where(length > 0, length, 1), 0).astype(np.float32)
    out[length[:, 0] == 0, 0] = 1
    return out


def nearest_two(
    rows: Float32[np.ndarray, "N D"], centroids: Float32[np.ndarray, "K D"], *, device: str = "cpu"
) -> tuple[Int32[np.ndarray, "N 2"], Float32[np.ndarray, "N 2"]]:
    """Return the two nearest centroids of each row and the cosines to them, nearest first; K is 2 at least."""
    if device != "cpu":
        import torch

        cosines = torch.from_numpy(rows).to(device) @ torch.from_numpy(centroids).to(device).T
        top = torch.topk(cosines, 2, dim=1)
        return top.indices.int().cpu().numpy(), top.values.float().cpu().numpy()
    cosines = rows @ centroids.T
    every = np.arange(len(rows))
    indices, values = np.empty((len(rows), 2), np.int32), np.empty((len(rows), 2), np.float32)
    for place in range(2):
        best = cosines.argmax(1)
        indices[:, place], values[:, place] = best, cosines[every, best]
        cosines[every, best] = -np.inf
    return indices, values
