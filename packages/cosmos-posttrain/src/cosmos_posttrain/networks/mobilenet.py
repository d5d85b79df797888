"""MobileNetV2 (Sandler et al., arXiv 1801.04381, table 2) of width 1 for ImageNet, under torchvision's names."""

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor, nn

from cosmos_posttrain.networks.activations import activations
from cosmos_posttrain.networks.imagenet import normalise

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, width, blocks and first stride of each stage; the paper's t, c, n, s."""


class ConvNormReLU(nn.Sequential):
    """Convolution, norm, ReLU6."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project without ReLU; around a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.shortcut = stride == 1 and channels_in == channels_out
        self.conv = nn.Sequential(
            *([] if expansion == 1 else [ConvNormReLU(channels_in, hidden, 1)]),
            ConvNormReLU(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """``N C H W`` to ``N D H' W'``."""
        y = self.conv(x_NCHW)
        return x_NCHW + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """The classifier; ``forward`` gives activations, as a perceptual loss wants them.

    They are the outputs of the last block at each resolution, which have no ReLU behind them.
    """

    layers = ("features.1", "features.3", "features.6", "features.13", "features.17")
    """Names of the activations, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the sides."""
    unused = ()

    def __init__(self) -> None:
        super().__init__()
        modules: list[nn.Module] = [ConvNormReLU(3, 32, 3, stride=2)]
        channels = 32
        for expansion, width, blocks, first in STAGES:
            for block in range(blocks):
                stride = first if block == 0 else 1
                modules.append(InvertedResidual(channels, width, stride=stride, expansion=expansion))
                channels = width
        self.features = nn.Sequential(*modules, ConvNormReLU(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(
        self, frames: Float[Tensor, "N 3 H W"], layers: Collection[str] | None = None
    ) -> dict[str, Float[Tensor, "N _ _ _"]]:
        """Activations by name.

        Args:
            frames: in [-1, 1], of any size.
            layers: names of those wanted, ``features.0`` to ``features.18``; those of ``self.layers`` by default.
                Nothing after the last is computed.
        """
        named = ((f"features.{place}", module) for place, module in enumerate(self.features))
        return activations(normalise(frames), named, self.layers if layers is None else layers)

    def logits(self, frames: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 1000"]:
        """Scores of ImageNet's classes for frames in [-1, 1], best at 224x224."""
        return self.classifier(self.features(normalise(frames)).mean(dim=(2, 3)))
