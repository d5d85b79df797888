"""What the network's raw output means at a noise level: EDM (arXiv 2206.00364, section 5), and two kinds of flow.

One convention for all: a noisy clip is ``x = x0 + sigma n`` with ``n`` of unit variance, and the denoised one is
``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)`` (equation 7 there). A flow's own ``x_t = (1 - t) x0 + t n`` is
``x / (1 + sigma)`` at ``t = sigma / (1 + sigma)``, so every sampler and every schedule here serves every kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.config import Prediction

GIVEN_TIME = 1e-4
"""Time of a flow at which it is told that given frames stand: as good as clean."""


class Scales(NamedTuple):
    """The four functions of the noise level."""

    c_skip: Float[Tensor, "*B"]
    c_out: Float[Tensor, "*B"]
    c_in: Float[Tensor, "*B"]
    c_noise: Float[Tensor, "*B"]


@runtime_checkable
class Preconditioning(Protocol):
    """One kind. `sigma_data`: deviation that the data are brought to.

    `augment`: noise level at which given frames are shown, by default. `given_sigma`: level that the network is told
    for given frames, each frame having a level of its own; None where it is told the clip's level for all.
    """

    @property
    def sigma_data(self) -> float: ...

    @property
    def augment(self) -> float: ...

    @property
    def given_sigma(self) -> float | None: ...

    def scales(self, sigma: Float[Tensor, "*B"]) -> Scales:
        """At levels above 0, in the dtype of them."""
        ...

    def weight(self, sigma: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Weight of the squared error of ``D``: ``1 / c_out**2``, under which the error of ``F`` counts alike."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EDM:
    """Table 1 of arXiv 2206.00364, column "Ours"; the released nets have data of deviation 0.5.

    Given frames are shown with a little noise of their own, at the level of the clip.
    """

    sigma_data: float = 0.5
    augment: float = 0.001

    @property
    def given_sigma(self) -> float | None:
        """Given frames have no level of their own."""
        return None

    def scales(self, sigma: Float[Tensor, "*B"]) -> Scales:
        """At levels above 0, in the dtype of them."""
        data = self.sigma_data
        variance = sigma.square() + data**2
        return Scales(data**2 / variance, sigma * data * variance.rsqrt(), variance.rsqrt(), sigma.log() / 4)

    def weight(self, sigma: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """``(sigma**2 + sigma_data**2) / (sigma sigma_data)**2``."""
        return (sigma.square() + self.sigma_data**2) / (sigma * self.sigma_data).square()


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """Predict2's: the network gives the velocity ``n - x0`` (arXiv 2209.03003, equation 1) and is told ``t``.

    Given frames are shown as they are, and each frame has a level of its own.
    """

    sigma_data: float = 1.0
    given_sigma: float | None = GIVEN_TIME

    @property
    def augment(self) -> float:
        """Given frames have no noise."""
        return 0.0

    def scales(self, sigma: Float[Tensor, "*B"]) -> Scales:
        """``1 - t, -t, 1 - t, t`` at levels above 0, in the dtype of them."""
        rest = 1 / (1 + sigma)
        time = sigma * rest
        return Scales(rest, -time, rest, time)

    def weight(self, sigma: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """``1 / t**2``."""
        return ((1 + sigma) / sigma).square()


@dataclass(frozen=True, kw_only=True, slots=True)
class RectifiedFlow(Flow):
    """Predict2.5's (arXiv 2209.03003): the same functions; time is shifted by 5 in training and in sampling.

    Shifted, ``t`` is ``5 t / (1 + 4 t)`` (arXiv 2403.03206, equation 23), which multiplies sigma.
    """

    given_sigma: float | None = GIVEN_TIME / (1 - GIVEN_TIME)


PRECONDITIONINGS: Mapping[Prediction, Preconditioning] = MappingProxyType(
    {"edm": EDM(), "flow": Flow(), "rectified": RectifiedFlow()}
)
"""By ``DiTConfig.prediction``."""
