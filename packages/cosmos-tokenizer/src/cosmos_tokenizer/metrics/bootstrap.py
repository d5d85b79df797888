"""A bootstrap interval of the Fréchet distance of two paired sets of features (Efron 1979, by percentiles).

Pairs are drawn with replacement, both sides of a pair together: a clip and its reconstruction are no two accidents.
A drawn set repeats samples, so that it is smaller than it looks and its distance larger: on average by `bias`. The
distance itself is larger than that of endless sets by something of that order (measured: up to twice as much, where
samples are hardly more than features). The interval is of the drawn distances less `bias`. It says how the figure would
vary with other samples, as many of them; it does not say where more would lead.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer.errors import InputError

RESAMPLES = 100
"""Drawn sets of an interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """`low` to `high` holds `level` of `resamples` drawn distances less `bias`, their mean excess over the estimate."""

    low: float
    high: float
    bias: float
    level: float
    resamples: int


def bootstrap_interval(
    reference_ND: Float[Tensor, "N D"],
    other_ND: Float[Tensor, "N D"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    done: Callable[[int], None] | None = None,
) -> Interval:
    """The interval around the distance of the two sets, whose rows belong together.

    A drawn set costs a factorisation of min(N, D) rows and columns: on one core, 0.04 s for 500 samples of 400 features
    and 13 s for 5000 of 2048. `done` hears of drawn sets.

    Raises:
        InputError: there are fewer than two pairs.
    """
    count = len(reference_ND)
    if count < 2:
        raise InputError(f"{count} samples have no interval; give two or more, of some thousands at best")
    x_ND, y_ND = reference_ND.to(torch.float64), other_ND.to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    estimate = _distance(x_ND, y_ND, torch.ones(count, dtype=torch.int64, device=x_ND.device))
    drawn = []
    for _ in range(resamples):
        times_N = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count)
        drawn.append(_distance(x_ND, y_ND, times_N.to(x_ND.device)))
        if done is not None:
            done(1)
    distances = torch.tensor(drawn, dtype=torch.float64)
    bias = float(distances.mean()) - estimate
    ends = distances.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    low, high = ((ends - bias).clamp_min(0)).tolist()
    return Interval(low=low, high=high, bias=bias, level=level, resamples=resamples)


def _distance(x_ND: Tensor, y_ND: Tensor, times_N: Tensor) -> float:
    """Distance of the sets that hold row i `times_N[i]` times.

    With S1 = A^T A and S2 = B^T B, the eigenvalues of S1 S2 are the squared singular values of A B^T.
    """
    (mean_x, rows_x), (mean_y, rows_y) = (_centred(rows, times_N) for rows in (x_ND, y_ND))
    roots = torch.linalg.svdvals(_short(rows_x) @ _short(rows_y).mT).sum()
    squares = (mean_x - mean_y).square().sum() + rows_x.square().sum() + rows_y.square().sum()
    return max(0.0, float(squares - 2 * roots))


def _centred(rows_ND: Tensor, times_N: Tensor) -> tuple[Tensor, Tensor]:
    """The mean, and rows whose products add up to the covariance."""
    count = times_N.sum()
    mean_D = times_N.to(rows_ND.dtype) @ rows_ND / count
    once = times_N > 0
    weights_M1 = (times_N[once, None] / (count - 1)).sqrt()
    return mean_D, (rows_ND[once] - mean_D) * weights_M1


def _short(rows_MD: Tensor) -> Tensor:
    """As many rows as columns at most, with the same products."""
    return rows_MD if len(rows_MD) <= rows_MD.shape[1] else torch.linalg.qr(rows_MD, mode="r").R
