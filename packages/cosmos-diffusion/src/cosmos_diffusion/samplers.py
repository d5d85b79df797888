"""Samplers: from noise at ``sigmas[0]`` to a sample at ``sigmas[-1]``, and no further.

Each follows ``dx / dsigma = (x - D(x; sigma)) / sigma`` (arXiv 2206.00364, equation 1) and differs in what it makes of
the predictions. With ``l = -ln sigma`` the equation is ``dx / dl = D - x``, whose linear half the multistep samplers
solve exactly. A last level of 0 gives the last prediction itself. All take the same arguments:

- ``denoise(x, sigma)`` returns the clean clip it sees in ``x``, which has the dtype of the first one;
- ``x``, which is noise at ``sigmas[0]``, ``sigmas[0] * gaussian(...)`` where nothing is known;
- ``sigmas``, strictly falling: no step is without length. Only the last may be 0;
- ``churn`` where the sampler takes it, with its ``generator``;
- ``callback``, called behind every step; where it returns True the sampler stops and returns what it has.

Numbers of the schedule become Python's once, before the first step, and the state between steps is in float64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.noise import gaussian
from cosmos_tokenizer import InputError

Sigmas = Sequence[int | float] | Float[Tensor, " S"]
Denoise = Callable[[Tensor, float], Tensor]
"""A noisy clip and its level to the clean clip that is seen in it."""


class Step(NamedTuple):
    """What a callback sees: ``done`` of ``steps`` steps lie behind."""

    done: int
    steps: int
    sigma: float
    """Level of ``x``, the one that the step led to."""
    x: Tensor
    x0: Tensor
    """The clean clip as the step saw it."""


Callback = Callable[[Step], bool | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Churn:
    """Noise put back before a step (arXiv 2206.00364, algorithm 2).

    `amount`, `low`, `high` and `noise` are ``S_churn``, ``S_tmin``, ``S_tmax`` and ``S_noise`` there: how much over all
    steps, at which levels, and the deviation of the noise.

    Raises:
        InputError: a value is out of range.
    """

    amount: int | float
    low: int | float = 0
    high: int | float = math.inf
    noise: int | float = 1

    def __post_init__(self) -> None:
        if not 0 <= self.amount < math.inf or not self.noise >= 0 or not 0 <= self.low <= self.high:
            raise InputError(f"{self}: amount, low and noise must be 0 or more, and high at least low")

    def raised(self, sigma: float, steps: int) -> float:
        """The level to go back up to."""
        within = self.low <= sigma <= self.high
        return sigma * (1 + min(self.amount / steps, math.sqrt(2) - 1)) if within else sigma


class _Seen(NamedTuple):
    log: float
    """``l``, minus the logarithm of the level."""
    x0: Tensor


_Advance = Callable[[Tensor, list[_Seen], float], Tensor]
"""State, what was seen (newest last) and the next ``l``, to the next state."""


def euler(
    denoise: Denoise,
    x: Float[Tensor, "*B"],
    sigmas: Sigmas,
    *,
    churn: Churn | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "*B"]:
    """Order 1, one evaluation a step: the released nets' own sampler, and DDIM's (arXiv 2010.02502).

    Raises:
        InputError: the levels do not fall, or there are fewer than two.
    """

    def advance(state: Tensor, seen: list[_Seen], log: float) -> Tensor:
        return _blend(state, seen[-1].x0, log - seen[-1].log)

    return _one_evaluation(denoise, x, sigmas, advance, churn, generator, callback)


def heun(
    denoise: Denoise,
    x: Float[Tensor, "*B"],
    sigmas: Sigmas,
    *,
    churn: Churn | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "*B"]:
    """Order 2, two evaluations a step and one where the level ends at 0 (arXiv 2206.00364, algorithms 1 and 2).

    Raises:
        InputError: the levels do not fall, or there are fewer than two.
    """
    levels = _levels(sigmas)
    steps = len(levels) - 1
    state = _state(x)
    for index, (sigma, target) in enumerate(pairwise(levels)):
        state, sigma = _churned(state, sigma, steps, churn, generator)
        x0 = denoise(state.to(x.dtype), sigma).to(state)
        slope = (state - x0) / sigma
        if target == 0:
            state = x0
        else:
            guess = state + (target - sigma) * slope
            second = (guess - denoise(guess.to(x.dtype), target).to(state)) / target
            state = state + (target - sigma) * (slope + second) / 2
        if _stops(callback, index, steps, target, state, x0, x.dtype):
            break
    return state.to(x.dtype)


def res_2ab(
    denoise: Denoise,
    x: Float[Tensor, "*B"],
    sigmas: Sigmas,
    *,
    churn: Churn | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "*B"]:
    """Order 2, one evaluation a step: exponential Adams-Bashforth (arXiv 2308.02157).

    The first step is Euler's, and so is one before which noise was put back.

    Raises:
        InputError: the levels do not fall, or there are fewer than two.
    """

    def advance(state: Tensor, seen: list[_Seen], log: float) -> Tensor:
        now = seen[-1]
        h = log - now.log
        if len(seen) == 1:
            return _blend(state, now.x0, h)
        phi_1 = -math.expm1(-h) / h
        phi_2 = (1 - phi_1) / h
        back = (seen[-2].log - now.log) / h
        return math.exp(-h) * state + h * ((phi_1 - phi_2 / back) * now.x0 + phi_2 / back * seen[-2].x0)

    return _one_evaluation(denoise, x, sigmas, advance, churn, generator, callback)


def dpmpp_2m(
    denoise: Denoise,
    x: Float[Tensor, "*B"],
    sigmas: Sigmas,
    *,
    callback: Callback | None = None,
) -> Float[Tensor, "*B"]:
    """Order 2, one evaluation a step: DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

    Raises:
        InputError: the levels do not fall, or there are fewer than two.
    """

    def advance(state: Tensor, seen: list[_Seen], log: float) -> Tensor:
        now = seen[-1]
        h = log - now.log
        if len(seen) == 1:
            return _blend(state, now.x0, h)
        share = h / (now.log - seen[-2].log) / 2
        return _blend(state, (1 + share) * now.x0 - share * seen[-2].x0, h)

    return _one_evaluation(denoise, x, sigmas, advance, None, None, callback)


def unipc(
    denoise: Denoise,
    x: Float[Tensor, "*B"],
    sigmas: Sigmas,
    *,
    order: int = 2,
    callback: Callback | None = None,
) -> Float[Tensor, "*B"]:
    """Order 1 to 3, one evaluation a step: UniPC with ``B(h) = e^h - 1`` (arXiv 2302.04867, algorithms 1 and 2).

    Every prediction first corrects the state it was made for, and then leads to the next. The first steps have the
    orders 1, 2, ....

    Raises:
        InputError: the levels do not fall, there are fewer than two, or the order is another.
    """
    if order not in (1, 2, 3):
        raise InputError(f"order is {order}: unipc has 1, 2 and 3")
    levels = _levels(sigmas)
    steps = len(levels) - 1
    before = state = _state(x)
    seen: list[_Seen] = []
    for index, (sigma, target) in enumerate(pairwise(levels)):
        now = _Seen(-math.log(sigma), denoise(state.to(x.dtype), sigma).to(state))
        if seen:
            state = _unified(before, seen[-order:], now.log, now.x0)
        seen = [*seen, now][-order:]
        before = state
        state = now.x0 if target == 0 else _unified(state, seen, -math.log(target), None)
        if _stops(callback, index, steps, target, state, now.x0, x.dtype):
            break
    return state.to(x.dtype)


def _unified(state: Tensor, seen: list[_Seen], log: float, found: Tensor | None) -> Tensor:
    """From the newest seen to ``log``: the predictor, or with the prediction ``found`` there the corrector.

    The differences ``(x0_k - x0) / r_k`` get the weights of arXiv 2302.04867, section 3.2 (predictor) or 3.1
    (corrector); a single difference gets 1/2, as there.
    """
    now, order = seen[-1], len(seen)
    h = log - now.log
    ratios = [(other.log - now.log) / h for other in reversed(seen[:-1])]
    slopes = [(other.x0 - now.x0) / ratio for other, ratio in zip(reversed(seen[:-1]), ratios, strict=True)]
    if found is not None:
        ratios, slopes = [*ratios, 1.0], [*slopes, found - now.x0]
    if not slopes:
        return _blend(state, now.x0, h)
    scale = math.expm1(-h)
    if len(slopes) == 1:
        weights = [0.5]
    else:
        sides = _sides(-h, scale, len(slopes))
        weights = np.linalg.solve(np.vander(ratios, increasing=True).T, sides).tolist()
    assert len(slopes) == order - (found is None)
    change = sum((weight * slope for weight, slope in zip(weights, slopes, strict=True)), torch.zeros_like(state))
    return _blend(state, now.x0, h) - scale * change


def _sides(step: float, scale: float, count: int) -> list[float]:
    """``k! phi_{k+1}(step) step / scale`` for k = 1 ...: right-hand sides of the weights' equations."""
    sides, factorial = [], 1
    phi = math.expm1(step) / step - 1
    for power in range(1, count + 1):
        sides.append(phi * factorial / scale)
        factorial *= power + 1
        phi = phi / step - 1 / factorial
    return sides


def _one_evaluation(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sigmas,
    advance: _Advance,
    churn: Churn | None,
    generator: torch.Generator | None,
    callback: Callback | None,
) -> Tensor:
    levels = _levels(sigmas)
    steps = len(levels) - 1
    state = _state(x)
    seen: list[_Seen] = []
    for index, (sigma, target) in enumerate(pairwise(levels)):
        state, raised = _churned(state, sigma, steps, churn, generator)
        if raised > sigma:  # what was seen before the new noise says nothing of where this step leads
            sigma, seen = raised, []
        x0 = denoise(state.to(x.dtype), sigma).to(state)
        seen = [*seen[-1:], _Seen(-math.log(sigma), x0)]
        state = x0 if target == 0 else advance(state, seen, -math.log(target))
        if _stops(callback, index, steps, target, state, x0, x.dtype):
            break
    return state.to(x.dtype)


def _blend(state: Tensor, x0: Tensor, h: float) -> Tensor:
    """Where ``x0`` would lead if it stayed."""
    return math.exp(-h) * state - math.expm1(-h) * x0


def _state(x: Tensor) -> Tensor:
    # Apple's GPUs have no float64.
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def _levels(sigmas: Sigmas) -> list[float]:
    levels = [float(sigma) for sigma in (sigmas.tolist() if isinstance(sigmas, Tensor) else sigmas)]
    if len(levels) < 2:
        raise InputError(f"sigmas has {len(levels)} levels: give at least two, the first and the last")
    for sigma, target in pairwise(levels):
        if not math.inf > sigma > target >= 0:
            raise InputError(f"sigmas goes from {sigma} to {target}: levels must fall, and only the last may be 0")
    return levels


def _churned(
    state: Tensor, sigma: float, steps: int, churn: Churn | None, generator: torch.Generator | None
) -> tuple[Tensor, float]:
    raised = sigma if churn is None else churn.raised(sigma, steps)
    if churn is None or raised == sigma:
        return state, sigma
    noise = gaussian(state.shape, generator=generator, device=state.device, dtype=state.dtype)
    return state + math.sqrt(raised**2 - sigma**2) * churn.noise * noise, raised


def _stops(
    callback: Callback | None, index: int, steps: int, sigma: float, state: Tensor, x0: Tensor, dtype: torch.dtype
) -> bool:
    return callback is not None and bool(callback(Step(index + 1, steps, sigma, state.to(dtype), x0.to(dtype))))
