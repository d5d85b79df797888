"""The similarity fit: exact on exact flow, against closed forms, outliers, edges and the dark."""

import numpy as np
import pytest

from cosmos_curate.motion.similarity import IDENTITY, Similarity, fit_similarity


def grid(rows=18, columns=32):
    """Points of a picture of 9:16, in diagonals from its centre, and tensors of plenty of texture."""
    x, y = np.meshgrid(np.linspace(-0.436, 0.436, columns), np.linspace(-0.245, 0.245, rows))
    points = np.stack([x.ravel(), y.ravel()], 1)
    return points, np.broadcast_to(np.eye(2) / 2, (len(points), 2, 2)).copy()


def displaced(points, shift, log_scale, angle):
    """What the similarity does to each point, as a complex number: (e^(s + i angle) - 1) z + t."""
    z = points[:, 0] + 1j * points[:, 1]
    moved = (np.exp(log_scale + 1j * angle) - 1) * z + complex(*shift)
    return np.stack([moved.real, moved.imag], 1)


def closed_form(points, displacements):
    """Least squares of the same model by complex regression."""
    z, d = points @ (1, 1j), displacements @ (1, 1j)
    factor = ((z - z.mean()).conj() @ (d - d.mean())) / (np.abs(z - z.mean()) ** 2).sum()
    shift = d.mean() - factor * z.mean()
    return np.array([shift.real, shift.imag, np.log(abs(1 + factor)), np.angle(1 + factor)])


def values(fit):
    return np.array([*fit.shift, fit.log_scale, fit.angle])


@pytest.mark.parametrize("seed", range(4))
def test_exact_flow_is_recovered(seed):
    points, tensors = grid()
    rng = np.random.default_rng(seed)
    true = rng.uniform(-0.1, 0.1, 2), rng.uniform(-0.2, 0.2), rng.uniform(-0.3, 0.3)
    fit = fit_similarity(points, displaced(points, *true), tensors)
    np.testing.assert_allclose(values(fit), [*true[0], *true[1:]], atol=1e-6)
    np.testing.assert_allclose(fit.displacements(points), displaced(points, *true), atol=1e-6)
    assert fit.trust == pytest.approx(1)


def test_signs_name_the_picture():
    right = np.array([[0.3, 0.0]])
    turn = Similarity(shift=(0.0, 0.0), log_scale=0.0, angle=0.1, trust=1.0)
    grow = Similarity(shift=(0.0, 0.0), log_scale=0.1, angle=0.0, trust=1.0)
    assert turn.displacements(right)[0, 1] > 0  # clockwise: what is right goes down
    assert grow.displacements(right)[0, 0] > 0


def test_small_noise_agrees_with_least_squares():
    points, tensors = grid()
    rng = np.random.default_rng(1)
    noisy = displaced(points, (0.03, -0.01), 0.02, -0.05) + rng.normal(size=points.shape) * 1e-3
    difference = values(fit_similarity(points, noisy, tensors)) - closed_form(points, noisy)
    # Tukey gives up 5 % efficiency: a quarter of a standard error, times three or so.
    assert np.abs(difference * (1, 1, 0.3, 0.3)).max() < 1e-3 / np.sqrt(len(points))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4])
def test_outliers_in_one_place_do_not_pull(share):
    points, tensors = grid()
    rng = np.random.default_rng(2)
    flow = displaced(points, (0.02, 0.0), 0.01, 0.02) + rng.normal(size=points.shape) * 3e-4
    apart = points[:, 0] < np.quantile(points[:, 0], share)
    flow[apart] = (-0.08, 0.05) + rng.normal(size=(apart.sum(), 2)) * 0.003
    fit = fit_similarity(points, flow, tensors)
    np.testing.assert_allclose(values(fit), closed_form(points[~apart], flow[~apart]), atol=3e-4)
    assert np.abs(closed_form(points, flow) - closed_form(points[~apart], flow[~apart])).max() > 5e-3
    assert fit.trust == pytest.approx(1 - share, abs=0.03)


def test_along_an_edge_a_displacement_has_no_say():
    points, tensors = grid()
    flow = displaced(points, (0.04, -0.02), 0.0, 0.0)
    upright = points[:, 0] > 0
    tensors[upright], tensors[~upright] = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    flow[upright, 1] = flow[~upright, 0] = 0  # what a flow without the aperture's other half says
    np.testing.assert_allclose(values(fit_similarity(points, flow, tensors)), [0.04, -0.02, 0, 0], atol=1e-5)


def test_no_texture_is_no_motion():
    points, tensors = grid()
    assert fit_similarity(points, displaced(points, (0.1, 0.1), 0.1, 0.1), tensors * 0) == IDENTITY


def test_one_point_bears_a_shift():
    fit = fit_similarity(np.zeros((1, 2)), np.array([[0.01, 0.02]]), np.eye(2)[None] / 2)
    np.testing.assert_allclose(values(fit), [0.01, 0.02, 0, 0], atol=1e-6)


def test_same_bits_again():
    points, tensors = grid()
    flow = np.random.default_rng(3).normal(size=points.shape) * 0.01
    assert fit_similarity(points, flow, tensors) == fit_similarity(points, flow, tensors)


def test_a_large_thing_in_the_middle_does_not_outvote_the_still_rim():
    points, tensors = grid()
    flow = np.zeros_like(points)
    middle = (np.abs(points / np.abs(points).max(0)) < 0.78).all(1)
    assert middle.mean() >= 0.5
    flow[middle] = displaced(points[middle], (0.03, 0.01), 0.05, 0.0)
    np.testing.assert_allclose(values(fit_similarity(points, flow, tensors)), 0, atol=1e-6)
