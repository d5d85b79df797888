"""VGG-16 and VGG-19 (Simonyan & Zisserman, arXiv 1409.1556, configurations D and E): the convolutions alone.

Names are torchvision's, whose files also hold a classifier; `sources` passes over it.
"""

from collections.abc import Collection
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from cosmos_posttrain.networks.activations import activations
from cosmos_posttrain.networks.imagenet import normalise

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions of each stage; before every stage but the first stands a maximum over 2x2 pixels."""


class VGG(nn.Module):
    """Convolutional stages, whose activations are ``relu1_2`` for the second of the first stage, and so on."""

    unused = ("classifier.", "pre_logits.", "head.")
    """Keys of other people's files begin so where they belong to the classifier."""

    def __init__(self, name: Literal["vgg16", "vgg19"]) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        self.layers: tuple[str, ...] = ()
        """Names of the activations, first to last."""
        self._places: dict[int, str] = {}
        channels = 3
        for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[name], strict=True), start=1):
            for convolution in range(1, depth + 1):
                modules += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                self._places[len(modules) - 1] = f"relu{stage}_{convolution}"
                channels = width
            modules.append(nn.MaxPool2d(2))
        self.layers = tuple(self._places.values())
        self.features = nn.Sequential(*modules)

    def forward(
        self, frames: Float[Tensor, "N 3 H W"], layers: Collection[str] | None = None
    ) -> dict[str, Float[Tensor, "N _ _ _"]]:
        """Activations by name.

        Args:
            frames: in [-1, 1]; sides of at least 16 reach the last stage.
            layers: names of those wanted; all of ``self.layers`` by default. Nothing after the last is computed.
        """
        named = ((self._places.get(place), module) for place, module in enumerate(self.features))
        return activations(normalise(frames), named, self.layers if layers is None else layers)
