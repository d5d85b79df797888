"""Layers of the tokenizer (arXiv 2501.03575, section 4.1): causal convolutions, norms, attention, resampling.

Activations are ``x_BTCHW`` with each frame channels-last in memory. Space is worked on frame by frame, so every
kernel is a 2-D convolution or a matrix product; only ``TemporalConv``, ``TemporalAttention`` and the video resampling
mix frames, and none of them looks ahead.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cosmos_tokenizer.config import Media, Resample


class SpatialConv(nn.Conv2d):
    """2-D convolution of every frame."""

    def forward(self, input: Tensor) -> Tensor:
        """``B T C H W`` to ``B T D H' W'``."""
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])


class TemporalConv(nn.Module):
    """Causal convolution over three frames; before the first frame stand copies of it.

    Args:
        channels_in, channels_out: widths.
        stride: 2 keeps output frames 0, 2, 4, ... of the stride-1 result.
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3))
        self.bias = nn.Parameter(torch.empty(channels_out))
        bound = 1 / math.sqrt(3 * channels_in)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B T' D H W``, where T' is T, or ceil(T / 2) at stride 2."""
        x_BTHWC = x_BTCHW.movedim(2, -1)
        first = x_BTHWC[:, :1]
        padded = torch.cat([first, first, x_BTHWC], dim=1)
        frames = x_BTHWC.shape[1]
        # Three matrix products instead of one 3-D convolution: no unfolding, and the fastest of the forms tried on CPU.
        taps = [padded[:, tap : tap + frames : self.stride] for tap in range(3)]
        y = F.linear(taps[2], self.weight[:, :, 2], self.bias)
        y = y + F.linear(taps[1], self.weight[:, :, 1])
        y = y + F.linear(taps[0], self.weight[:, :, 0])
        return y.movedim(-1, 2)


class FactorisedConv(nn.Module):
    """A (1, 3, 3) convolution, zero-padded, then a causal (3, 1, 1) one."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.spatial = SpatialConv(channels_in, channels_out, 3, padding=1)
        self.temporal = TemporalConv(channels_out, channels_out)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B T D H W``."""
        return self.temporal(self.spatial(x_BTCHW))


def conv3(channels_in: int, channels_out: int, media: Media) -> nn.Module:
    """The 3-wide convolution of a net: plain for images, factorised for video."""
    if media == "image":
        return SpatialConv(channels_in, channels_out, 3, padding=1)
    return FactorisedConv(channels_in, channels_out)


class FrameNorm(nn.GroupNorm):
    """GroupNorm over the channels and pixels of one frame, which keeps it causal."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        """``B T C H W`` to the same shape."""
        return super().forward(input.flatten(0, 1)).unflatten(0, input.shape[:2])


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, *, media: Media, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels_in)
        self.conv1 = conv3(channels_in, channels_out, media)
        self.norm2 = FrameNorm(groups, channels_out)
        self.conv2 = conv3(channels_out, channels_out, media)
        self.shortcut = nn.Identity() if channels_in == channels_out else SpatialConv(channels_in, channels_out, 1)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B T D H W``."""
        h = self.conv1(F.silu(self.norm1(x_BTCHW)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x_BTCHW) + h


class _Attention(nn.Module):
    """Single-head attention with its own norm and a residual; subclasses say what attends to what."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels)
        self.q = nn.Linear(channels, channels)
        self.k = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)


class SpatialAttention(_Attention):
    """Every pixel of a frame attends to every pixel of that frame."""

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to the same shape."""
        batch, _, _, height, _ = x_BTCHW.shape
        h_NLC = rearrange(self.norm(x_BTCHW), "b t c h w -> (b t) 1 (h w) c")
        o = F.scaled_dot_product_attention(self.q(h_NLC), self.k(h_NLC), self.v(h_NLC))
        return x_BTCHW + rearrange(self.proj(o), "(b t) 1 (h w) c -> b t c h w", b=batch, h=height)


class TemporalAttention(_Attention):
    """Every pixel attends to itself in its own and all earlier frames."""

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to the same shape."""
        batch, _, _, height, _ = x_BTCHW.shape
        h_NTC = rearrange(self.norm(x_BTCHW), "b t c h w -> (b h w) 1 t c")
        o = F.scaled_dot_product_attention(self.q(h_NTC), self.k(h_NTC), self.v(h_NTC), is_causal=True)
        return x_BTCHW + rearrange(self.proj(o), "(b h w) 1 t c -> b t c h w", b=batch, h=height)


class MidBlock(nn.Module):
    """ResBlock, attention over space and (video) over time, ResBlock, at the lowest resolution."""

    def __init__(self, channels: int, *, media: Media, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, media=media, groups=groups)
        self.spatial_attention = SpatialAttention(channels, groups)
        self.temporal_attention = TemporalAttention(channels, groups) if media == "video" else nn.Identity()
        self.block_2 = ResBlock(channels, channels, media=media, groups=groups)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to the same shape."""
        return self.block_2(self.temporal_attention(self.spatial_attention(self.block_1(x_BTCHW))))


def _pad_right_bottom(x_BTCHW: Tensor) -> Tensor:
    return F.pad(x_BTCHW, (0, 1, 0, 1))


class ImageDownsample(nn.Module):
    """Halves height and width by a strided convolution, zero-padded on the right and bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SpatialConv(channels, channels, 3, stride=2)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B T C H/2 W/2``."""
        return self.conv(_pad_right_bottom(x_BTCHW))


class ImageUpsample(nn.Module):
    """Doubles height and width by repetition, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = SpatialConv(channels, channels, 3, padding=1)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B T C 2H 2W``."""
        return self.conv(_repeat_space(x_BTCHW))


class HybridDownsample(nn.Module):
    """Strided convolution plus average pooling of the same input: space first, then time, then a 1x1 mix."""

    def __init__(self, channels: int, plan: Resample) -> None:
        super().__init__()
        self.spatial = SpatialConv(channels, channels, 3, stride=2) if plan.spatial else None
        self.temporal = TemporalConv(channels, channels, stride=2) if plan.temporal else None
        self.mix = SpatialConv(channels, channels, 1)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B ceil(T/2) C H/2 W/2``, in the axes that the plan halves."""
        x = x_BTCHW
        if self.spatial is not None:
            padded = _pad_right_bottom(x)
            pooled = F.avg_pool2d(padded.flatten(0, 1), 2).unflatten(0, x.shape[:2])
            x = self.spatial(padded) + pooled
        if self.temporal is not None:
            before = torch.cat([x[:, :1], x[:, 1:-1:2]], dim=1)
            x = self.temporal(x) + (before + x[:, ::2]) / 2
        return self.mix(x)


class HybridUpsample(nn.Module):
    """Repetition plus a convolution of the repeated input: time first, then space, then a 1x1 mix."""

    def __init__(self, channels: int, plan: Resample) -> None:
        super().__init__()
        self.temporal = TemporalConv(channels, channels) if plan.temporal else None
        self.spatial = SpatialConv(channels, channels, 3, padding=1) if plan.spatial else None
        self.mix = SpatialConv(channels, channels, 1)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B 2T-1 C 2H 2W``, in the axes that the plan doubles."""
        x = x_BTCHW
        if self.temporal is not None:
            x = x.repeat_interleave(2, dim=1)[:, 1:]
            x = self.temporal(x) + x
        if self.spatial is not None:
            x = _repeat_space(x)
            x = self.spatial(x) + x
        return self.mix(x)


def _repeat_space(x_BTCHW: Tensor) -> Tensor:
    return F.interpolate(x_BTCHW.flatten(0, 1), scale_factor=2.0, mode="nearest").unflatten(0, x_BTCHW.shape[:2])


def downsample(channels: int, plan: Resample, media: Media) -> nn.Module:
    """What follows an encoder level: nothing where the plan halves nothing."""
    if not plan:
        return nn.Identity()
    return ImageDownsample(channels) if media == "image" else HybridDownsample(channels, plan)


def upsample(channels: int, plan: Resample, media: Media) -> nn.Module:
    """What follows a decoder level: nothing where the plan doubles nothing."""
    if not plan:
        return nn.Identity()
    return ImageUpsample(channels) if media == "image" else HybridUpsample(channels, plan)
