"""Tokenizers without one of the family's ideas each (arXiv 2501.03575, section 4.1), at one number of weights.

A variant is a ``CausalTokenizer`` some of whose layers are replaced. A clip of 1 + 4n frames has 1 + n latent frames of
one size in all of them, and every layer starts from torch's usual random weights.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_tokenizer import PRESETS, CausalTokenizer
from cosmos_tokenizer.attention import TemporalAttention
from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.layers import FactorisedConv, TemporalConv
from cosmos_tokenizer.network import HaarPatch, HaarUnpatch
from cosmos_tokenizer.products import Frames, causal_conv

CONFIG = replace(PRESETS["nano-cv4x8x8"], channels=24)
"""The network that stands whole in the first line: a shipped one's shape, narrower."""
TOLERANCE = 0.01
"""Largest difference of the numbers of weights, as a share."""


class PixelPatch(HaarPatch):
    """Pixels of a patch side by side, as they are; the first frame stands alone, repeated, as for the wavelet."""

    def forward(self, x_BCTHW: Tensor, *, start: bool) -> Tensor:
        """``B 3 T H W`` to ``B t D h w``."""
        assert start
        p = self.config.patch_size
        x = torch.cat([x_BCTHW[:, :, :1].expand(-1, -1, p - 1, -1, -1), x_BCTHW], dim=2)
        return rearrange(x, "b c (t i) (h j) (w k) -> b t h w (i j k c)", i=p, j=p, k=p).movedim(-1, 2)


class PixelUnpatch(HaarUnpatch):
    """Inverse of :class:`PixelPatch`: of the repeated first frame, the last copy is kept."""

    def forward(self, x_BTCHW: Tensor, *, start: bool) -> Tensor:
        """``B t D h w`` to ``B 3 T H W``."""
        assert start
        p = self.config.patch_size
        x = rearrange(x_BTCHW, "b t (i j k c) h w -> b c (t i) (h j) (w k)", i=p, j=p, k=p)
        return x[:, :, p - 1 :]


class ScaledPatch(nn.Module):
    """A patch whose channels have mean 0 and deviation 1 over some clips."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, patch: nn.Module, clips: Float[Tensor, "B 3 T H W"]) -> None:
        super().__init__()
        self.patch = patch
        channels = patch(clips, start=True)
        self.register_buffer("mean", channels.mean((0, 1, 3, 4))[:, None, None])
        self.register_buffer("deviation", channels.std((0, 1, 3, 4)).clamp_min(1e-4)[:, None, None])

    def forward(self, x_BCTHW: Tensor, *, start: bool) -> Tensor:
        """``B 3 T H W`` to ``B t D h w``."""
        return (self.patch(x_BCTHW, start=start) - self.mean) / self.deviation


class ScaledUnpatch(nn.Module):
    """Inverse of a :class:`ScaledPatch`."""

    def __init__(self, unpatch: nn.Module, scaled: ScaledPatch) -> None:
        super().__init__()
        self.unpatch, self.scaled = unpatch, scaled

    def forward(self, x_BTCHW: Tensor, *, start: bool) -> Tensor:
        """``B t D h w`` to ``B 3 T H W``."""
        return self.unpatch(x_BTCHW * self.scaled.deviation + self.scaled.mean, start=start)


class CentredConv(TemporalConv):
    """Convolution over the frame before, the present and the next; beyond either end stand copies of the end."""

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to ``B T D H W``."""
        assert cache is None
        assert self.stride == 1
        x_BTHWC = x_BTCHW.movedim(2, -1)
        ahead = torch.cat([x_BTHWC[:, 1:], x_BTHWC[:, -1:]], dim=1)
        past = x_BTHWC[:, :1].expand(-1, 2, -1, -1, -1)
        return causal_conv(ahead, past, self.weight, self.bias).movedim(-1, 2)


class UnmaskedAttention(TemporalAttention):
    """Every pixel attends to itself in all frames."""

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to the same shape."""
        assert cache is None
        batch, _, _, height, _ = x_BTCHW.shape
        h_NTC = rearrange(self.norm(x_BTCHW), "b t c h w -> (b h w) 1 t c")
        o = F.scaled_dot_product_attention(self.q(h_NTC), self.k(h_NTC), self.v(h_NTC))
        return x_BTCHW + rearrange(self.proj(o), "(b h w) 1 t c -> b t c h w", b=batch, h=height)


class WholeConv(nn.Module):
    """A causal (3, 3, 3) convolution in one piece: zeros around frames, copies of the first frame before it."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(27 * channels_in)
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels_out).uniform_(-bound, bound))

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None, *, before: Frames | None = None) -> Tensor:
        """``B T C H W`` to ``B T D H W``, after ``before`` on each frame."""
        assert cache is None
        x = x_BTCHW if before is None else before(x_BTCHW.flatten(0, 1)).unflatten(0, x_BTCHW.shape[:2])
        x = torch.cat([x[:, :1].expand(-1, 2, -1, -1, -1), x], dim=1).movedim(2, 1)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        return F.conv3d(x, self.weight, self.bias, padding=(0, 1, 1)).movedim(1, 2)


def _unchanged(model: CausalTokenizer) -> None:
    pass


def _without_wavelet(model: CausalTokenizer) -> None:
    _replace(model, HaarPatch, lambda layer: PixelPatch(layer.config))
    _replace(model, HaarUnpatch, lambda layer: PixelUnpatch(layer.config))


def _not_causal(model: CausalTokenizer) -> None:
    _replace(model, TemporalConv, lambda layer: CentredConv(layer.weight.shape[1], layer.weight.shape[0]))
    _replace(model, TemporalAttention, lambda layer: UnmaskedAttention(layer.norm.num_channels, layer.norm.num_groups))


def _not_factorised(model: CausalTokenizer) -> None:
    _replace(model, FactorisedConv, lambda layer: WholeConv(layer.spatial.in_channels, layer.spatial.out_channels))


def _replace(model: nn.Module, kind: type[nn.Module], make: Callable[..., nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is kind:
                setattr(parent, name, make(child))


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What is replaced, and whether the channels of a patch are brought to mean 0 and deviation 1."""

    change: Callable[[CausalTokenizer], None] = _unchanged
    scaled: bool = False


VARIANTS: Mapping[str, Variant] = {
    "baseline": Variant(),
    "without wavelet": Variant(change=_without_wavelet),
    "not causal": Variant(change=_not_causal),
    "not factorised": Variant(change=_not_factorised),
    "baseline, scaled patches": Variant(scaled=True),
    "without wavelet, scaled patches": Variant(change=_without_wavelet, scaled=True),
}


def build(name: str, seed: int, clips: Float[Tensor, "B 3 T H W"]) -> CausalTokenizer:
    """Variant of that name with random weights; ``clips``, some of the training data, scale its patches."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    model = _changed(variant, width(name))
    if variant.scaled:
        assert model.encoder is not None
        assert model.decoder is not None
        model.encoder.patch = scaled = ScaledPatch(model.encoder.patch, clips)
        model.decoder.unpatch = ScaledUnpatch(model.decoder.unpatch, scaled)
    return model


@cache
def width(name: str) -> int:
    """Channels of the variant's first level with which its number of weights is nearest to the baseline's."""
    wanted, near = weights("baseline", CONFIG.channels), range(1, 4 * CONFIG.channels)
    above = bisect_left(near, wanted, key=lambda channels: weights(name, channels))
    distance, nearest = min(
        (abs(weights(name, channels) - wanted), channels) for channels in near[above - 1 : above + 1]
    )
    assert distance <= TOLERANCE * wanted
    return nearest


def weights(name: str, channels: int) -> int:
    """Number of the variant's weights at this width."""
    with torch.device("meta"):
        return sum(value.numel() for value in _changed(VARIANTS[name], channels).parameters())


def _changed(variant: Variant, channels: int) -> CausalTokenizer:
    model = CausalTokenizer(replace(CONFIG, channels=channels))
    variant.change(model)
    return model
