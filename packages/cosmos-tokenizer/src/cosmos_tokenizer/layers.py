"""Convolutions, norm and residual block of the tokenizer (arXiv 2501.03575, section 4.1).

Activations are ``x_BTCHW`` with each frame channels-last in memory. Space is worked on frame by frame, so every
kernel is a 2-D convolution or a matrix product; layers that mix frames take a :class:`FrameCache` and never look ahead.
"""

import math

import torch
from torch import Tensor, nn

from cosmos_tokenizer import products
from cosmos_tokenizer.cache import FrameCache, Remembers
from cosmos_tokenizer.config import Media
from cosmos_tokenizer.frame_norm import norm_silu


class SpatialConv(nn.Conv2d):
    """2-D convolution of every frame."""

    def forward(
        self, input: Tensor, cache: FrameCache | None = None, *, before: products.Frames | None = None
    ) -> Tensor:
        """``B T C H W`` to ``B T D H' W'``, after ``before`` on each frame."""
        (stride, _), (padding, _) = self.stride, self.padding
        x_NCHW = input.flatten(0, 1)
        y = products.conv2d(x_NCHW, self.weight, self.bias, stride=stride, padding=int(padding), before=before)
        return y.unflatten(0, input.shape[:2])


class TemporalConv(Remembers):
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

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B T' D H W``, where T' is T, or ceil(T / 2) at stride 2 (T / 2 with a past)."""
        x_BTHWC = x_BTCHW.movedim(2, -1)
        past = self.recall(cache)
        y = products.causal_conv(x_BTHWC, past, self.weight, self.bias, stride=self.stride)
        self.remember(cache, last_frames(x_BTHWC, past, 3 - self.stride))
        return y.movedim(-1, 2)


def last_frames(x_BTHWC: Tensor, past_BTHWC: Tensor | None, count: int) -> Tensor:
    """The last ``count`` frames of a clip so far, where the first stands for those before it."""
    missing = count - x_BTHWC.shape[1]
    if missing <= 0:
        return x_BTHWC[:, x_BTHWC.shape[1] - count :]
    before = x_BTHWC[:, :1].expand(-1, missing, -1, -1, -1) if past_BTHWC is None else past_BTHWC[:, -missing:]
    return torch.cat([before, x_BTHWC], dim=1)


class FactorisedConv(nn.Module):
    """A (1, 3, 3) convolution, zero-padded, then a causal (3, 1, 1) one."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.spatial = SpatialConv(channels_in, channels_out, 3, padding=1)
        self.temporal = TemporalConv(channels_out, channels_out)

    def forward(
        self, x_BTCHW: Tensor, cache: FrameCache | None = None, *, before: products.Frames | None = None
    ) -> Tensor:
        """``B T C H W`` to ``B T D H W``, after ``before`` on each frame."""
        return self.temporal(self.spatial(x_BTCHW, before=before), cache)


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
        return self._normed(input.flatten(0, 1), silu=False).unflatten(0, input.shape[:2])

    def silu(self, x_NCHW: Tensor) -> Tensor:
        """SiLU of the normed frames."""
        return self._normed(x_NCHW, silu=True)

    def _normed(self, x_NCHW: Tensor, *, silu: bool) -> Tensor:
        return norm_silu(x_NCHW, self.weight, self.bias, groups=self.num_groups, eps=self.eps, silu=silu)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, *, media: Media, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, channels_in)
        self.conv1 = conv3(channels_in, channels_out, media)
        self.norm2 = FrameNorm(groups, channels_out)
        self.conv2 = conv3(channels_out, channels_out, media)
        self.shortcut = nn.Identity() if channels_in == channels_out else SpatialConv(channels_in, channels_out, 1)

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B T D H W``."""
        h = self.conv1(x_BTCHW, cache, before=self.norm1.silu)
        h = self.conv2(h, cache, before=self.norm2.silu)
        return h.add_(self.shortcut(x_BTCHW))
