"""Preconditioning: the published functions, and what they are for."""

import pytest
import torch
from diffusers import EDMEulerScheduler

from cosmos_diffusion.preconditioning import EDM, GIVEN_TIME, PRECONDITIONINGS, Flow, RectifiedFlow

SIGMA = torch.tensor([1e-4, 0.002, 0.3, 1.0, 7.5, 80.0, 1e4], dtype=torch.float64)


def test_edm_equals_diffusers() -> None:
    peer = EDMEulerScheduler(sigma_data=0.5)
    x, raw = torch.randn(2, len(SIGMA), dtype=torch.float64)
    scales = EDM().scales(SIGMA)
    torch.testing.assert_close(scales.c_in * x, peer.precondition_inputs(x, SIGMA))
    torch.testing.assert_close(scales.c_noise, peer.precondition_noise(SIGMA))
    torch.testing.assert_close(scales.c_skip * x + scales.c_out * raw, peer.precondition_outputs(x, raw, SIGMA))


def test_edm_gives_input_and_target_unit_variance() -> None:
    """Appendix B.6 of arXiv 2206.00364, for data of deviation ``sigma_data``."""
    kind = EDM(sigma_data=0.7)
    scales = kind.scales(SIGMA)
    torch.testing.assert_close(scales.c_in**2 * (SIGMA**2 + 0.49), torch.ones_like(SIGMA))
    target = ((1 - scales.c_skip) ** 2 * 0.49 + scales.c_skip**2 * SIGMA**2) / scales.c_out**2
    torch.testing.assert_close(target, torch.ones_like(SIGMA))


@pytest.mark.parametrize("kind", [Flow(), RectifiedFlow()])
def test_a_flow_predicts_the_velocity(kind: Flow) -> None:
    """``x_t = (1 - t) x0 + t n`` is the network's input, ``n - x0`` its output, and ``t`` what it is told."""
    x0, n = torch.randn(2, len(SIGMA), dtype=torch.float64)
    t = SIGMA / (1 + SIGMA)
    scales = kind.scales(SIGMA)
    x = x0 + SIGMA * n
    torch.testing.assert_close(scales.c_in * x, (1 - t) * x0 + t * n)
    torch.testing.assert_close(scales.c_noise, t)
    torch.testing.assert_close(scales.c_skip * x + scales.c_out * (n - x0), x0, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", PRECONDITIONINGS.values())
def test_weight_makes_the_raw_error_count_alike_everywhere(kind: EDM) -> None:
    torch.testing.assert_close(kind.weight(SIGMA) * kind.scales(SIGMA).c_out ** 2, torch.ones_like(SIGMA))


def test_the_level_of_given_frames_is_as_released() -> None:
    assert PRECONDITIONINGS["edm"].given_sigma is None
    told = {}
    for name in ("flow", "rectified"):
        given = PRECONDITIONINGS[name].given_sigma
        assert given is not None
        told[name] = PRECONDITIONINGS[name].scales(torch.tensor(given, dtype=torch.float64)).c_noise.item()
    assert told["flow"] == pytest.approx(1e-4 / (1 + 1e-4), rel=1e-12)
    assert told["rectified"] == pytest.approx(GIVEN_TIME, rel=1e-12)
