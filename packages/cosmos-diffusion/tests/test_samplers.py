"""Samplers: their order on a Gaussian whose denoiser is known, and the same samples as diffusers' schedulers."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from cosmos_diffusion.preconditioning import EDM, Flow
from cosmos_diffusion.samplers import Churn, Step, dpmpp_2m, euler, heun, res_2ab, unipc
from cosmos_diffusion.sigmas import karras, shifted, sigma_of
from cosmos_tokenizer import InputError

EVERY = [euler, heun, res_2ab, dpmpp_2m, unipc]
UNIPC_3 = partial(unipc, order=3)


class Gaussian:
    """A target of independent normal numbers: its denoiser, and where each noisy point comes from."""

    def __init__(self, size: int) -> None:
        self.mean = torch.randn(size, dtype=torch.float64)
        self.deviation = 0.2 + 1.5 * torch.rand(size, dtype=torch.float64)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        variance = self.deviation**2
        return (variance * x + sigma**2 * self.mean) / (variance + sigma**2)

    def carried(self, x: Tensor, sigma: float, target: float) -> Tensor:
        variance = self.deviation**2
        return self.mean + (x - self.mean) * ((variance + target**2) / (variance + sigma**2)).sqrt()


def uneven(steps: int) -> list[float]:
    """Levels from 20 to 0.05 whose steps differ by several times."""
    ramp = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    ramp = ramp + 0.6 * torch.sin(2 * math.pi * ramp) / (2 * math.pi)
    return (math.log(20) + ramp * math.log(0.05 / 20)).exp().tolist()


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(euler, 1), (heun, 2), (res_2ab, 2), (dpmpp_2m, 2), (partial(unipc, order=1), 2), (unipc, 3), (UNIPC_3, 4)],
    ids=["euler", "heun", "res_2ab", "dpmpp_2m", "unipc-1", "unipc-2", "unipc-3"],
)
@pytest.mark.parametrize("levels", [partial(karras, sigma_min=0.05, sigma_max=20.0, zero=False), uneven])
def test_errors_fall_with_the_order(sampler: Callable, order: int, levels: Callable) -> None:
    """The corrector gives UniPC-p the order p + 1."""
    target, errors = Gaussian(9), []
    x = 20 * torch.randn(4, 9, dtype=torch.float64)
    for steps in (40, 80):
        found = sampler(target, x, levels(steps))
        errors.append((found - target.carried(x, 20, 0.05)).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)
    assert errors[1] < 0.08


class Net:
    """A network of no meaning, which counts its evaluations."""

    def __init__(self, size: int) -> None:
        self.weight = torch.randn(size, size, dtype=torch.float64) / size**0.5
        self.evaluations = 0

    def __call__(self, x: Tensor, c_noise: Tensor) -> Tensor:
        self.evaluations += 1
        return torch.tanh(x @ self.weight + c_noise) + 0.3 * x.roll(1, -1)

    def denoiser(self, kind: EDM | Flow) -> Callable[[Tensor, float], Tensor]:
        def denoise(x: Tensor, sigma: float) -> Tensor:
            scales = kind.scales(torch.tensor(sigma, dtype=torch.float64))
            return scales.c_skip * x + scales.c_out * self(scales.c_in * x, scales.c_noise)

        return denoise


@pytest.mark.parametrize("end", ["zero", "sigma_min"])
def test_euler_equals_diffusers_and_leaves_out_its_step_of_no_length(end: str) -> None:
    net, steps = Net(6), 12
    peer = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, final_sigmas_type=end)
    peer.set_timesteps(steps)
    x = first = 80 * torch.randn(3, 6, dtype=torch.float64)
    before = x
    for t in peer.timesteps:
        before = x
        x = peer.step(net(peer.scale_model_input(x, t), t), t, x, return_dict=False)[0]
    assert net.evaluations == steps
    assert torch.equal(x.float(), before.float()) == (end == "sigma_min")  # in float32, as it works
    net.evaluations = 0
    sigmas = karras(steps, zero=True) if end == "zero" else karras(steps - 1, zero=False)
    torch.testing.assert_close(euler(net.denoiser(EDM()), first, sigmas), x, atol=1e-4, rtol=1e-4)
    assert net.evaluations == (steps if end == "zero" else steps - 1)


def test_euler_on_a_rectified_flow_equals_diffusers() -> None:
    net, steps = Net(6), 11
    peer = FlowMatchEulerDiscreteScheduler(shift=5.0)
    peer.set_timesteps(sigmas=np.linspace(0.999, 0, steps + 1)[:-1])
    x = first = torch.randn(3, 6, dtype=torch.float64)
    for t, sigma in zip(peer.timesteps, peer.sigmas, strict=False):
        x = peer.step(net(x, sigma), t, x, return_dict=False)[0].double()
    sigmas = shifted(steps)
    found = euler(net.denoiser(Flow()), first * (1 + sigmas[0]), sigmas)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "levels", [{"flow_shift": 5.0}, {"use_karras_sigmas": True, "sigma_min": 0.01, "sigma_max": 200}]
)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # numpy 2's, of diffusers
def test_unipc_on_a_rectified_flow_equals_diffusers(order: int, levels: dict) -> None:
    net, steps = Net(6), 11
    peer = UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", solver_order=order, **levels
    )
    peer.set_timesteps(steps)
    peer.set_begin_index(0)
    times = peer.sigmas = peer.sigmas.double()
    x = first = torch.randn(3, 6, dtype=torch.float64)
    for t, sigma in zip(peer.timesteps, times, strict=False):
        x = peer.step(net(x, sigma), t, x, return_dict=False)[0]
    sigmas = sigma_of(times)
    found = unipc(net.denoiser(Flow()), first * (1 + sigmas[0]), sigmas, order=order)
    torch.testing.assert_close(found, x, atol=1e-9, rtol=1e-9)


def test_dpmpp_2m_equals_diffusers() -> None:
    net, steps = Net(6), 16
    peer = EDMDPMSolverMultistepScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, rho=7)
    peer.set_timesteps(steps)
    x = first = 80 * torch.randn(3, 6, dtype=torch.float64)
    for t in peer.timesteps:
        x = peer.step(net(peer.scale_model_input(x, t), t), t, x, return_dict=False)[0].double()
    torch.testing.assert_close(dpmpp_2m(net.denoiser(EDM()), first, karras(steps)), x, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", EVERY)
def test_a_sampler_goes_to_the_last_level_and_no_further(sampler: Callable) -> None:
    seen: list[float] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return 0 * x

    levels = [3.0, 2.0, 1.2, 0.7]
    x = torch.randn(2, 5)
    found = sampler(denoise, x, levels)
    torch.testing.assert_close(found, x * 0.7 / 3, atol=1e-6, rtol=1e-6)
    assert seen == ([3.0, 2.0, 2.0, 1.2, 1.2, 0.7] if sampler is heun else levels[:-1])
    seen.clear()
    assert torch.equal(sampler(denoise, x, [*levels, 0]), torch.zeros_like(x))
    assert len(seen) == (7 if sampler is heun else 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sampler", EVERY)
def test_denoise_gets_and_the_sample_has_the_dtype_of_x(sampler: Callable, dtype: torch.dtype) -> None:
    def denoise(x: Tensor, sigma: float) -> Tensor:
        assert x.dtype == dtype
        return (x / (1 + sigma**2)).to(dtype)

    assert sampler(denoise, torch.randn(2, 5).to(dtype), [3.0, 1.0, 0.3, 0.1]).dtype == dtype


@pytest.mark.parametrize("sampler", EVERY)
def test_a_callback_sees_every_step_and_may_stop(sampler: Callable) -> None:
    target = Gaussian(5)
    x = torch.randn(3, 5, dtype=torch.float64)
    steps: list[Step] = []
    whole = sampler(target, x, [5.0, 2.0, 1.0, 0.0], callback=steps.append)
    assert [(step.done, step.steps, step.sigma) for step in steps] == [(1, 3, 2.0), (2, 3, 1.0), (3, 3, 0.0)]
    assert torch.equal(steps[-1].x, whole)
    stopped = sampler(target, x, [5.0, 2.0, 1.0, 0.0], callback=lambda step: step.done == 2)
    assert torch.equal(stopped, steps[1].x)


@pytest.mark.parametrize("sampler", [euler, heun, res_2ab])
def test_churn_keeps_the_distribution_and_follows_its_generator(sampler: Callable) -> None:
    target = Gaussian(1)
    x = 20 * torch.randn(4000, 1, dtype=torch.float64) + target.mean
    draw = partial(sampler, target, x, karras(240, sigma_min=0.02, sigma_max=20.0))
    churn = Churn(amount=20, low=0.05, high=10)
    one, same, other = (draw(churn=churn, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, draw())
    assert one.mean().item() == pytest.approx(target.mean.item(), abs=0.1)
    assert one.std().item() == pytest.approx(target.deviation.item(), rel=0.08)


def test_noise_is_put_back_as_far_and_where_it_is_told() -> None:
    churn = Churn(amount=3, low=0.5, high=2)
    assert [churn.raised(sigma, 12) for sigma in (0.49, 0.5, 1.0, 2.0, 2.01)] == [0.49, 0.625, 1.25, 2.5, 2.01]
    assert Churn(amount=60).raised(3.0, 12) == pytest.approx(3 * math.sqrt(2))
    x = torch.zeros(20000, dtype=torch.float64)
    found = euler(lambda x, sigma: 0 * x, x, [2.0, 1.0], churn=Churn(amount=0.25, noise=3))
    assert found.std().item() == pytest.approx(3 * math.sqrt(2.5**2 - 2**2) / 2.5, rel=0.03)


def test_a_step_behind_new_noise_looks_back_at_nothing() -> None:
    target, x = Gaussian(5), 20 * torch.randn(3, 5, dtype=torch.float64)
    levels, churn = uneven(9), Churn(amount=2)
    one, other = (
        sampler(target, x, levels, churn=churn, generator=torch.Generator().manual_seed(3))
        for sampler in (euler, res_2ab)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("sampler", EVERY)
def test_half_precision_is_lost_at_the_end_alone(sampler: Callable) -> None:
    x = torch.randn(500).to(torch.bfloat16)
    levels = uneven(90)
    found = sampler(lambda x, sigma: 0 * x, x, levels)
    assert torch.equal(found, (x.double() * levels[-1] / levels[0]).to(torch.bfloat16))


@pytest.mark.parametrize(
    "sigmas", [[3.0], [], [3.0, 3.0], [1.0, 2.0], [1.0, 0.0, 0.0], [1.0, -1.0], [float("inf"), 1.0]]
)
@pytest.mark.parametrize("sampler", EVERY)
def test_levels_that_do_not_fall_are_named(sampler: Callable, sigmas: list[float]) -> None:
    with pytest.raises(InputError, match="sigmas"):
        sampler(Gaussian(5), torch.zeros(1, 5), sigmas)


def test_other_values_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match="order is 4"):
        unipc(Gaussian(5), torch.zeros(1, 5), [1.0, 0.0], order=4)
    with pytest.raises(InputError, match="amount=-1"):
        Churn(amount=-1)
