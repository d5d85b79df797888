"""Schedules: the noise levels that a sampler goes through, from the largest down, in float64 on the CPU."""

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.config import Prediction
from cosmos_tokenizer import InputError


def karras(
    steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: int | float = 7,
    zero: bool = True,
) -> Float[Tensor, " S"]:
    """Equation 5 of arXiv 2206.00364: ``steps + 1`` levels, so as many evaluations as steps in :func:`samplers.euler`.

    With ``zero`` the last level is 0, the one before it ``sigma_min``, and the sample ends as a clean prediction.
    Without, the last is ``sigma_min``, and noise of that level is left in the sample: where it ends in diffusers'
    ``final_sigmas_type="sigma_min"``, which repeats that level and spends a last evaluation on a step of no length.

    Raises:
        InputError: a value is out of range.
    """
    _check_steps(steps)
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise InputError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}: give 0 < sigma_min < sigma_max")
    if not rho > 0:
        raise InputError(f"rho is {rho}: it must be positive")
    ramp = torch.linspace(0, 1, steps + (not zero), dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ended((high + ramp * (low - high)) ** rho, zero)


def shifted(steps: int, *, shift: int | float = 5, first: float = 0.999) -> Float[Tensor, " S"]:
    """Times of a rectified flow at even distances, shifted (arXiv 2403.03206, equation 23), as levels; ends at 0.

    Args:
        steps: evaluations.
        shift: 1 for none, more to spend more steps on strong noise.
        first: time of the first level before the shift, below 1, where sigma would be infinite.

    Raises:
        InputError: a value is out of range.
    """
    _check_steps(steps)
    if not shift > 0:
        raise InputError(f"shift is {shift}: it must be positive")
    if not 0 < first < 1:
        raise InputError(f"first is {first}: it must lie between 0 and 1")
    times = first * (1 - torch.arange(steps, dtype=torch.float64) / steps)
    return _ended(shift * sigma_of(times), zero=True)


def sigma_of(time: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """``t / (1 - t)``: noise against signal at a flow's time."""
    return time / (1 - time)


def time_of(sigma: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """``sigma / (1 + sigma)``: a flow's time at a noise level."""
    return sigma / (1 + sigma)


def schedule(prediction: Prediction, steps: int) -> Float[Tensor, " S"]:
    """What the released networks of a kind are sampled with.

    Raises:
        InputError: the number of steps is out of range.
    """
    return shifted(steps) if prediction == "rectified" else karras(steps)


def _ended(levels: Tensor, zero: bool) -> Tensor:
    return torch.cat([levels, levels.new_zeros(1)]) if zero else levels


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= 10000:
        raise InputError(f"steps is {steps}: give a whole number from 1 to 10000")
