"""What halves and doubles frames in space and time between the levels (arXiv 2501.03575, section 4.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.config import Media, Resample
from cosmos_tokenizer.layers import SpatialConv, TemporalConv


def pad_right_bottom(x_BTCHW: Tensor) -> Tensor:
    """One row and one column of zeros behind the last ones."""
    return F.pad(x_BTCHW, (0, 1, 0, 1))


class ImageDownsample(nn.Module):
    """Halves height and width by a strided convolution, zero-padded on the right and bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SpatialConv(channels, channels, 3, stride=2)

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B T C H/2 W/2``."""
        return self.conv(pad_right_bottom(x_BTCHW))


class ImageUpsample(nn.Module):
    """Doubles height and width by repetition, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SpatialConv(channels, channels, 3, padding=1)

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B T C 2H 2W``."""
        return self.conv(_repeat_space(x_BTCHW))


class HybridDownsample(nn.Module):
    """Strided convolution plus average pooling of the same input: space first, then time, then a 1x1 mix."""

    def __init__(self, channels: int, plan: Resample) -> None:
        super().__init__()
        self.spatial = SpatialConv(channels, channels, 3, stride=2) if plan.spatial else None
        self.temporal = TemporalConv(channels, channels, stride=2) if plan.temporal else None
        self.mix = SpatialConv(channels, channels, 1)

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B ceil(T/2) C H/2 W/2``, in the axes that the plan halves (``T/2`` with a past)."""
        x = x_BTCHW
        if self.spatial is not None:
            padded = pad_right_bottom(x)
            pooled = F.avg_pool2d(padded.flatten(0, 1), 2).unflatten(0, x.shape[:2])
            x = self.spatial(padded) + pooled
        if self.temporal is not None:
            if self.temporal.recall(cache) is None:
                before, present = torch.cat([x[:, :1], x[:, 1:-1:2]], dim=1), x[:, ::2]
            else:
                before, present = x[:, ::2], x[:, 1::2]
            x = self.temporal(x, cache) + (before + present) / 2
        return self.mix(x)


class HybridUpsample(nn.Module):
    """Repetition plus a convolution of the repeated input: time first, then space, then a 1x1 mix."""

    def __init__(self, channels: int, plan: Resample) -> None:
        super().__init__()
        self.temporal = TemporalConv(channels, channels) if plan.temporal else None
        self.spatial = SpatialConv(channels, channels, 3, padding=1) if plan.spatial else None
        self.mix = SpatialConv(channels, channels, 1)

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B 2T-1 C 2H 2W``, in the axes that the plan doubles (``2T`` with a past)."""
        x = x_BTCHW
        if self.temporal is not None:
            repeated = x.repeat_interleave(2, dim=1)
            x = repeated[:, 1:] if self.temporal.recall(cache) is None else repeated
            x = self.temporal(x, cache) + x
        if self.spatial is not None:
            x = _repeat_space(x)
            x = self.spatial(x) + x
        return self.mix(x)


def _repeat_space(x_BTCHW: Tensor) -> Tensor:
    return F.interpolate(x_BTCHW.flatten(0, 1), scale_factor=2.0, mode="nearest").unflatten(0, x_BTCHW.shape[:2])


def downsample(channels: int, plan: Resample, media: Media) -> nn.Module | None:
    """What follows an encoder level: nothing where the plan halves nothing."""
    if not plan:
        return None
    return ImageDownsample(channels) if media == "image" else HybridDownsample(channels, plan)


def upsample(channels: int, plan: Resample, media: Media) -> nn.Module | None:
    """What follows a decoder level: nothing where the plan doubles nothing."""
    if not plan:
        return None
    return ImageUpsample(channels) if media == "image" else HybridUpsample(channels, plan)
