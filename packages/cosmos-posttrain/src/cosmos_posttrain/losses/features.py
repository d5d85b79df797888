"""Perceptual and Gram terms (arXiv 2501.03575, section 4.2): activations of a frozen network, compared layer by layer.

Two definitions are in use, the paper's on VGG-19 and that of NVIDIA's released training code on VGG-16. A weight per
layer tells the perceptual terms apart: the paper averages over layers, the code adds them up. The Gram terms differ
in more: see :class:`Gram`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain.losses.precision import in_float32
from cosmos_tokenizer import InputError

Features = Mapping[str, Float[Tensor, "B T C h w"]]
"""Activations of every frame by layer; layers differ in C, h and w."""

_SCALES = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)
RELEASED_VGG16: Mapping[str, float] = dict(
    zip(("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"), _SCALES, strict=True)
)
"""Layers of VGG-16 and their weights in the released code."""
PAPER_VGG19: Mapping[str, float] = {f"relu{n}_2": scale / len(_SCALES) for n, scale in enumerate(_SCALES, start=1)}
"""The paper's mean over layers of VGG-19. It names no layers and no weights; these are the ones for which Chen & Koltun
(arXiv 1707.09405) set the numbers that the released code has."""


@runtime_checkable
class FeatureNetwork(Protocol):
    """What the terms ask of a network; those of ``cosmos_posttrain.networks`` have it."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the activations that it gives unless told otherwise."""
        ...

    def __call__(self, frames: Float[Tensor, "N 3 H W"], layers: Collection[str] | None = None, /) -> dict[str, Tensor]:
        """Activations ``N C h w`` of frames in [-1, 1], by name."""
        ...


def equal_weights(network: FeatureNetwork) -> dict[str, float]:
    """The mean over a network's layers, for one that neither definition is about."""
    return dict.fromkeys(network.layers, 1 / len(network.layers))


@in_float32
def activations(
    video: Float[Tensor, "B 3 T H W"], network: FeatureNetwork, layers: Collection[str]
) -> dict[str, Float[Tensor, "B T _ _ _"]]:
    """Activations of every frame. Terms on one network share them through their ``of``.

    Raises:
        InputError: the network has no layer of such a name.
    """
    found = network(rearrange(video, "b c t h w -> (b t) c h w"), layers)
    for layer in layers:
        if layer not in found:
            raise InputError(f"the network has no layer {layer!r}: among its layers are {', '.join(network.layers)}")
    return {layer: x_NCHW.unflatten(0, (len(video), -1)) for layer, x_NCHW in found.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Perceptual:
    """Sum over layers of weight times the mean absolute difference of activations, which are not normalised."""

    network: FeatureNetwork
    weights: Mapping[str, float]
    """Layer to weight: ``RELEASED_VGG16``, ``PAPER_VGG19`` or :func:`equal_weights`."""

    def __call__(
        self, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
    ) -> Float[Tensor, ""]:
        """The term of two clips in [-1, 1]."""
        return self.of(*(activations(clip, self.network, self.weights) for clip in (reconstruction, video)))

    def of(self, reconstruction: Features, video: Features) -> Float[Tensor, ""]:
        """The term of activations that are at hand."""
        return torch.stack(
            [weight * (reconstruction[layer] - video[layer]).abs().mean() for layer, weight in self.weights.items()]
        ).sum()


@dataclass(frozen=True, kw_only=True, slots=True)
class Gram:
    """Sum over layers of weight times the mean difference of Gram matrices, products of channels averaged over pixels.

    ``paper``: the absolute difference of one matrix per frame. ``released``: the squared difference of one matrix per
    clip, over all its frames; it sees textures but not when they were there.
    """

    network: FeatureNetwork
    weights: Mapping[str, float]
    """Layer to weight, as for :class:`Perceptual`."""
    definition: Literal["paper", "released"]

    def __call__(
        self, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
    ) -> Float[Tensor, ""]:
        """The term of two clips in [-1, 1]."""
        return self.of(*(activations(clip, self.network, self.weights) for clip in (reconstruction, video)))

    @in_float32
    def of(self, reconstruction: Features, video: Features) -> Float[Tensor, ""]:
        """The term of activations that are at hand."""
        terms = []
        for layer, weight in self.weights.items():
            difference = self._matrix(reconstruction[layer]) - self._matrix(video[layer])
            size = difference.abs() if self.definition == "paper" else difference.square()
            terms.append(weight * size.mean())
        return torch.stack(terms).sum()

    def _matrix(self, x_BTCHW: Tensor) -> Tensor:
        pattern = "b t c h w -> (b t) c (h w)" if self.definition == "paper" else "b t c h w -> b c (t h w)"
        x_NCL = rearrange(x_BTCHW, pattern)
        return x_NCL @ x_NCL.mT / x_NCL.shape[-1]
