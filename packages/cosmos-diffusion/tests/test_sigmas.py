"""Schedules: equal to diffusers', of the length that was asked for."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from cosmos_diffusion.sigmas import karras, schedule, shifted, sigma_of, time_of
from cosmos_tokenizer import InputError


@pytest.mark.parametrize("steps", [1, 7, 35])
def test_karras_equals_diffusers(steps: int) -> None:
    peer = EDMEulerScheduler(sigma_min=0.0002, sigma_max=80, rho=7)
    peer.set_timesteps(steps)
    torch.testing.assert_close(karras(steps, sigma_min=0.0002).float(), peer.sigmas)


def test_without_zero_every_step_leads_on() -> None:
    peer = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, final_sigmas_type="sigma_min")
    peer.set_timesteps(36)
    assert peer.sigmas[-1] == peer.sigmas[-2]
    ours = karras(35, zero=False)
    torch.testing.assert_close(ours.float(), peer.sigmas[:-1])
    assert (ours.diff() < 0).all()
    assert len(karras(10000, zero=False)) == 10001


@pytest.mark.parametrize("steps", [1, 10, 35])
def test_shifted_equals_diffusers(steps: int) -> None:
    peer = FlowMatchEulerDiscreteScheduler(shift=5.0)
    peer.set_timesteps(sigmas=np.linspace(0.999, 0, steps + 1)[:-1])
    torch.testing.assert_close(time_of(shifted(steps)).float(), peer.sigmas, atol=1e-6, rtol=1e-6)


def test_time_and_level_are_inverse() -> None:
    time = torch.rand(20, dtype=torch.float64)
    torch.testing.assert_close(time_of(sigma_of(time)), time)


@pytest.mark.parametrize("prediction", ["edm", "flow", "rectified"])
def test_every_kind_has_a_schedule(prediction: str) -> None:
    levels = schedule(prediction, 9)
    assert levels.shape == (10,)
    assert levels[-1] == 0
    assert levels[0] == pytest.approx(80.0 if prediction != "rectified" else 5 * 999)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (partial(karras, 0), "steps is 0"),
        (partial(karras, 10001), "steps is 10001"),
        (partial(karras, 5, sigma_min=0.0), "sigma_min is 0.0"),
        (partial(karras, 5, sigma_max=0.001), "sigma_max 0.001"),
        (partial(karras, 5, rho=0), "rho is 0"),
        (partial(shifted, -3), "steps is -3"),
        (partial(shifted, 5, shift=0), "shift is 0"),
        (partial(shifted, 5, first=1.0), "first is 1.0"),
    ],
)
def test_values_out_of_range_are_named(make: partial, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()
