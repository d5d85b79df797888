"""Fréchet distance of two sets of features (Dowson and Landau 1982; FID of arXiv 1706.08500, FVD of arXiv 1812.01717).

Each set stands for the Gaussian of its mean and covariance, and between Gaussians the distance has the closed form

    d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((sqrt(S1) S2 sqrt(S1))^(1/2)),

which is what FID and FVD report: d^2, not d. The last trace is the sum of the square roots of the eigenvalues of that
symmetric matrix. They are the singular values of sqrt(S2) sqrt(S1) and are taken from there: nothing is squared, and
all digits of float64 hold, also where a covariance is singular. The roots of S1 and S2 come from their eigenvalues.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cosmos_tokenizer.errors import InputError


def frechet_distance(
    mean_1: Float[Tensor, " D"],
    covariance_1: Float[Tensor, "D D"],
    mean_2: Float[Tensor, " D"],
    covariance_2: Float[Tensor, "D D"],
) -> float:
    """Squared Fréchet distance of two Gaussians, at least 0; covariances are symmetric and may be singular."""
    m1, s1, m2, s2 = (x.to(torch.float64) for x in (mean_1, covariance_1, mean_2, covariance_2))
    roots = torch.linalg.svdvals(_root(s2) @ _root(s1)).sum()
    return max(0.0, float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * roots))


class FeatureStatistics:
    """Mean and covariance in float64 of features that come in pieces, in memory of one D x D matrix."""

    def __init__(self) -> None:
        self._count = 0
        self._mean_D = torch.zeros(0, dtype=torch.float64)
        self._scatter_DD = torch.zeros(0, 0, dtype=torch.float64)

    @property
    def count(self) -> int:
        """Samples so far."""
        return self._count

    @property
    def dimension(self) -> int:
        """Length of a feature vector; 0 before the first."""
        return len(self._mean_D)

    @property
    def mean(self) -> Float64[Tensor, " D"]:
        """Mean of the samples."""
        return self._mean_D

    @property
    def covariance(self) -> Float64[Tensor, "D D"]:
        """Sample covariance, over n - 1.

        Raises:
            InputError: there are fewer than two samples.
        """
        if self._count < 2:
            raise InputError(f"{self._count} samples have no covariance; give two or more, of some thousands at best")
        return self._scatter_DD / (self._count - 1)

    def update(self, features_BD: Float[Tensor, "B D"]) -> None:
        """Take in more samples; none change nothing.

        Raises:
            InputError: a feature is not finite, or the vectors are of another length than before.
        """
        with torch.inference_mode(False):  # in which the sums would be bound to inference mode for ever
            x_BD = features_BD.detach().to(torch.float64)
            if not bool(torch.isfinite(x_BD).all()):
                raise InputError("features are not finite; look at the network, and at the clips, that they come from")
            if not len(x_BD):  # their mean would be NaN
                return
            mean_D = x_BD.mean(0)
            self._move(len(x_BD), mean_D)
            centred_BD = x_BD - mean_D
            self._scatter_DD.addmm_(centred_BD.mT, centred_BD)

    def merge(self, other: "FeatureStatistics") -> None:
        """Take in the samples of another one, as if they had come here.

        Raises:
            InputError: the vectors are of another length.
        """
        if other._count:
            with torch.inference_mode(False):
                self._move(other._count, other._mean_D)
                self._scatter_DD += other._scatter_DD

    def distance(self, other: "FeatureStatistics") -> float:
        """The :func:`frechet_distance` of the two Gaussians.

        Raises:
            InputError: one holds fewer than two samples, or the vectors are of another length.
        """
        _check_length(self.dimension, other.dimension)
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)

    def _move(self, count: int, mean_D: Tensor) -> None:
        """Move the mean, and count the scatter of the two parts' means (Chan et al. 1979)."""
        if not self._count:
            self._mean_D, self._scatter_DD = mean_D.clone(), mean_D.new_zeros(len(mean_D), len(mean_D))
            self._count = count
            return
        _check_length(self.dimension, len(mean_D))
        total = self._count + count
        step_D = mean_D - self._mean_D
        self._scatter_DD.addr_(step_D, step_D, alpha=self._count * count / total)
        self._mean_D += step_D * (count / total)
        self._count = total


def sample_warning(samples: int, dimension: int, *, customary: int) -> str | None:
    """What a distance of so few samples is worth, in one sentence; None for `customary` ones or more.

    With finite sets the distance comes out too large, the more so the fewer they are; it is comparable only at the
    same number.
    """
    if samples <= dimension:
        return (
            f"{samples} samples of {dimension} features: the covariance is singular and the distance too large; "
            f"compare it only with that of the same samples, or give {customary} or more"
        )
    if samples < customary:
        return (
            f"{samples} samples, and {customary} are customary: the distance is too large; compare it only with those "
            "of as many samples"
        )
    return None


def _root(covariance_DD: Tensor) -> Tensor:
    values_D, vectors_DD = torch.linalg.eigh(covariance_DD)
    return (vectors_DD * values_D.clamp_min(0).sqrt()) @ vectors_DD.mT


def _check_length(here: int, there: int) -> None:
    if here != there:
        raise InputError(f"features of {here} and of {there} numbers; take both sets from one network")
