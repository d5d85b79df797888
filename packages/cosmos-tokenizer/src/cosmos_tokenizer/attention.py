"""Attention over the pixels of a frame, and over the past of a pixel (arXiv 2501.03575, section 4.1)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cosmos_tokenizer import products
from cosmos_tokenizer.cache import FrameCache, Remembers
from cosmos_tokenizer.config import Media
from cosmos_tokenizer.layers import FrameNorm, ResBlock


class Projection(nn.Linear):
    """A product over channels."""

    def forward(self, input: Tensor) -> Tensor:
        """``... C`` to ``... D``."""
        return products.linear(input, self.weight, self.bias)


class _Attention(Remembers):
    """Single-head attention with its own norm and a residual; subclasses say what attends to what."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = FrameNorm(groups, channels)
        self.q = Projection(channels, channels)
        self.k = Projection(channels, channels)
        self.v = Projection(channels, channels)
        self.proj = Projection(channels, channels)


class SpatialAttention(_Attention):
    """Every pixel of a frame attends to every pixel of that frame."""

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to the same shape."""
        batch, _, _, height, _ = x_BTCHW.shape
        h_NLC = rearrange(self.norm(x_BTCHW), "b t c h w -> (b t) 1 (h w) c")
        o = F.scaled_dot_product_attention(self.q(h_NLC), self.k(h_NLC), self.v(h_NLC))
        return x_BTCHW + rearrange(self.proj(o), "(b t) 1 (h w) c -> b t c h w", b=batch, h=height)


class TemporalAttention(_Attention):
    """Every pixel attends to itself in its own and all earlier frames, or in those of the cache's window."""

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to the same shape."""
        batch, _, _, height, _ = x_BTCHW.shape
        h_NTC = rearrange(self.norm(x_BTCHW), "b t c h w -> (b h w) 1 t c")
        kv = torch.stack([self.k(h_NTC), self.v(h_NTC)])
        window = None if cache is None else cache.window
        if cache is not None and window is None:
            kv = cache.append(self.key, kv, axis=3)
        elif cache is not None and window is not None:
            past = self.recall(cache)
            kv = kv if past is None else torch.cat([past, kv], dim=3)
            kept = torch.sym_min(window - 1, kv.shape[3])
            self.remember(cache, kv[:, :, :, kv.shape[3] - kept :])
        o = _attend(self.q(h_NTC), kv[0], kv[1], window)
        return x_BTCHW + rearrange(self.proj(o), "(b h w) 1 t c -> b t c h w", b=batch, h=height)


def _attend(q_NTC: Tensor, k_NSC: Tensor, v_NSC: Tensor, window: int | None) -> Tensor:
    """Causal attention of the last T of S frames, each to ``window`` frames at most."""
    frames, so_far = q_NTC.shape[2], k_NSC.shape[2]
    if frames == 1:
        return F.scaled_dot_product_attention(q_NTC, k_NSC, v_NSC)
    if frames == so_far and (window is None or window >= frames):
        return F.scaled_dot_product_attention(q_NTC, k_NSC, v_NSC, is_causal=True)
    age = torch.arange(so_far - frames, so_far, device=q_NTC.device)[:, None] - torch.arange(
        so_far, device=q_NTC.device
    )
    seen = (age >= 0) if window is None else (age >= 0) & (age < window)
    return F.scaled_dot_product_attention(q_NTC, k_NSC, v_NSC, attn_mask=seen)


class MidBlock(nn.Module):
    """ResBlock, attention over space and (video) over time, ResBlock, at the lowest resolution."""

    def __init__(self, channels: int, *, media: Media, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, media=media, groups=groups)
        self.spatial_attention = SpatialAttention(channels, groups)
        self.temporal_attention = TemporalAttention(channels, groups) if media == "video" else None
        self.block_2 = ResBlock(channels, channels, media=media, groups=groups)

    def forward(self, x_BTCHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """``B T C H W`` to the same shape."""
        h = self.spatial_attention(self.block_1(x_BTCHW, cache))
        if self.temporal_attention is not None:
            h = self.temporal_attention(h, cache)
        return self.block_2(h, cache)
