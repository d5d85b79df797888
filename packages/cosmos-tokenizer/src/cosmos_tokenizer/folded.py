"""Layers that only the inference form has; ``folding`` makes their weights."""

import torch
from einops import rearrange
from torch import Tensor, nn

from cosmos_tokenizer import products
from cosmos_tokenizer.cache import FrameCache, Remembers
from cosmos_tokenizer.layers import SpatialConv, TemporalConv, last_frames
from cosmos_tokenizer.resampling import pad_right_bottom


class PixelsToChannels(nn.Module):
    """All samples of a patch become channels ``(c t h w)``; a video's first frame is repeated to fill a patch."""

    def __init__(self, patch_size: int, time_patch: int) -> None:
        super().__init__()
        self.patch_size, self.time_patch = patch_size, time_patch

    def forward(self, x_BCTHW: Tensor, *, start: bool) -> Tensor:
        """``B 3 T H W`` to ``B t D h w``, channels-last."""
        p, t = self.patch_size, self.time_patch
        if start and t > 1:
            x_BCTHW = torch.cat([x_BCTHW[:, :, :1].expand(-1, -1, t - 1, -1, -1), x_BCTHW], dim=2)
        for axis, size in ((2, t), (3, p), (4, p)):
            if x_BCTHW.shape[axis] % size:
                index = whole_patches(x_BCTHW.shape[axis], size)
                x_BCTHW = x_BCTHW.index_select(axis, torch.tensor(index, device=x_BCTHW.device))
        x = rearrange(x_BCTHW, "b c (t n) (h p) (w q) -> b t h w (c n p q)", n=t, p=p, q=p)
        return x.contiguous().movedim(-1, 2)


def whole_patches(size: int, patch: int) -> list[int]:
    """Samples of an axis and, where they fill no patch, those that stand behind: the wavelet reflects at each level."""
    index, block = list(range(size)), 1
    while block < patch:
        if len(index) // block % 2:
            index += index[-2 * block : -block]
        block *= 2
    return index


class ToPixels(nn.Module):
    """Inverse of :class:`PixelsToChannels`."""

    def __init__(self, patch_size: int, time_patch: int) -> None:
        super().__init__()
        self.patch_size, self.time_patch = patch_size, time_patch

    def forward(self, x_BTCHW: Tensor, *, start: bool) -> Tensor:
        """``B t D h w`` to ``B 3 T H W``."""
        p, t = self.patch_size, self.time_patch
        y = rearrange(x_BTCHW, "b t (c n p q) h w -> b c (t n) (h p) (w q)", c=3, n=t, p=p, q=p)
        return y[:, :, t - 1 :] if start else y


class SubPixelConv(nn.Module):
    """Doubles height and width: pixel ``(2i + a, 2j + b)`` is a 2x2 convolution of phase ``(a, b)``.

    Args:
        weight: ``4 O I 2 2``, phases in the order (0, 0), (0, 1), (1, 0), (1, 1).
        bias: ``O``.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to ``B T D 2H 2W``."""
        x_NCHW = x_BTCHW.flatten(0, 1)
        count, _, height, width = x_NCHW.shape
        if torch.compiler.is_compiling():
            return self._as_one_product(x_NCHW).unflatten(0, x_BTCHW.shape[:2])
        out_NHWC = x_NCHW.new_empty(count, 2 * height, 2 * width, self.weight.shape[1])
        for phase, weight in enumerate(self.weight):
            row, column = divmod(phase, 2)
            y = products.conv2d(x_NCHW, weight, self.bias, padding=1)
            y = y[:, :, row : row + height, column : column + width]
            out_NHWC[:, row::2, column::2].copy_(y.permute(0, 2, 3, 1))
        return out_NHWC.permute(0, 3, 1, 2).unflatten(0, x_BTCHW.shape[:2])

    def _as_one_product(self, x_NCHW: Tensor) -> Tensor:
        """The same without writing in place, for compilers: every phase as channels, then each cut and interleaved."""
        height, width = x_NCHW.shape[2:]
        y = products.conv2d(x_NCHW, self.weight.flatten(0, 1), self.bias.repeat(4), padding=1)
        phases = [
            y_NCHW[:, :, phase // 2 : phase // 2 + height, phase % 2 : phase % 2 + width]
            for phase, y_NCHW in enumerate(y.chunk(4, dim=1))
        ]
        return rearrange(torch.stack(phases), "(p q) n c h w -> n c (h p) (w q)", p=2)


class DoubleFrames(Remembers):
    """Doubles the frame rate: both copies of a frame are convolutions of it and the one before; frame 0 stays single.

    Args:
        weight: ``2O I 2``, first the earlier copy.
        bias: ``2O``.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B 2T-1 D H W`` (``2T`` with a past)."""
        x_BTHWC = x_BTCHW.movedim(2, -1)
        past = self.recall(cache)
        y = products.causal_conv(x_BTHWC, past, self.weight, self.bias)
        self.remember(cache, last_frames(x_BTHWC, past, 1))
        y = rearrange(y, "b t h w (n c) -> b (t n) h w c", n=2)
        return (y[:, 1:] if past is None else y).movedim(-1, 2)


class MergedResampling(nn.Module):
    """Strided or sub-pixel convolutions that hold what stands around them in the trained form."""

    def __init__(
        self,
        spatial: SpatialConv | SubPixelConv | None,
        temporal: TemporalConv | DoubleFrames | None,
        *,
        space_first: bool = False,
    ) -> None:
        super().__init__()
        self.spatial, self.temporal, self.space_first = spatial, temporal, space_first

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to half or double of T, H, W."""
        x = x_BTCHW
        if self.space_first and self.spatial is not None:
            x = self.spatial(pad_right_bottom(x))
        if self.temporal is not None:
            x = self.temporal(x, cache)
        if not self.space_first and self.spatial is not None:
            x = self.spatial(x)
        return x
