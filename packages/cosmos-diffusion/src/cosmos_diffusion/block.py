"""One block of the transformer: self-attention, cross-attention to text, perceptron (arXiv 2501.03575, section 5.1)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.nn import Attend, Backend, Linear, RMSNorm, Rotation, attention, modulated, rotate
from cosmos_diffusion.noise_level import Modulation, NoiseLevel

Tables = Float[Tensor, "9 M t 1 D"]
"""Shift, scale and gate of self-attention, cross-attention and perceptron, for some noise levels."""


class KeysValues(NamedTuple):
    """Text as a block's cross-attention asks for it; a vector with ``bias_S`` of ``log(n)`` stands for ``n``."""

    k_BSNH: Float[Tensor, "B S N H"]
    v_BSNH: Float[Tensor, "B S N H"]
    bias_S: Float[Tensor, " S"] | None = None


class Attention(nn.Module):
    """Queries of the tokens, keys and values of them or of text; an RMS norm on each head's queries and keys."""

    backend: Backend = "sdpa"

    def __init__(self, config: DiTConfig, context_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = Linear(config.width, config.width)
        self.k, self.v = Linear(context_width, config.width), Linear(context_width, config.width)
        self.q_norm, self.k_norm = RMSNorm(config.head_width), RMSNorm(config.head_width)
        self.out = Linear(config.width, config.width)

    def keys_values(self, context_BSD: Float[Tensor, "B S D"], by: Rotation | None = None) -> KeysValues:
        """Normalised, and turned where they stand at positions."""
        k, v = (rearrange(layer(context_BSD), "b s (n h) -> b s n h", n=self.heads) for layer in (self.k, self.v))
        k = self.k_norm(k)
        return KeysValues(k if by is None else rotate(k, by), v)

    def forward(
        self,
        h_BLD: Float[Tensor, "B L D"],
        context: KeysValues | None,
        by: Rotation | None = None,
        attend: Attend = attention,
    ) -> Float[Tensor, "B L D"]:
        """What the tokens find in ``context``, or in one another."""
        q = self.q_norm(rearrange(self.q(h_BLD), "b l (n h) -> b l n h", n=self.heads))
        if by is not None:
            q = rotate(q, by)
        k, v, bias_S = self.keys_values(h_BLD, by) if context is None else context
        if bias_S is None:
            o = attend(q, k, v, backend=self.backend)
        else:
            o = attention(q, k, v, bias_S=bias_S, backend=self.backend)
        return self.out(o.flatten(-2))


class Block(nn.Module):
    """Three residuals, each behind a modulated norm and a gate."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.self_attention = Attention(config, config.width)
        self.cross_attention = Attention(config, config.text_width)
        self.up, self.down = Linear(config.width, config.mlp_width), Linear(config.mlp_width, config.width)
        self.modulations = nn.ModuleList(Modulation(config, 3) for _ in range(3))

    def tables(self, level: NoiseLevel) -> Tables:
        """All modulations of some noise levels, which nothing else has a part in."""
        return rearrange([modulation(level) for modulation in self.modulations], "k p b t one d -> (k p) b t one d")

    def forward(
        self,
        h_BLD: Float[Tensor, "B L D"],
        level: NoiseLevel | Tables,
        text: Float[Tensor, "C S K"] | KeysValues,
        by: Rotation,
        position: Float[Tensor, "1 L D"] | None,
        attend: Attend = attention,
        copies: int = 1,
    ) -> Float[Tensor, "R L D"]:
        """The tokens after the block, of ``R = B copies`` clips.

        Args:
            h_BLD: tokens, frame by frame.
            level: noise levels, or what :meth:`tables` made of them.
            text: text, or what ``cross_attention.keys_values`` made of it; with views, ``C`` is ``R`` times those.
            by: rotations of the tokens.
            position: is added first.
            attend: lets the tokens see one another.
            copies: of all clips, one batch behind another, which differ by their text alone: they are made behind
                self-attention, which is the same for all.
        """
        if position is not None:
            h_BLD = h_BLD + position.to(h_BLD.dtype)
        tables = self.tables(level) if isinstance(level, NoiseLevel) else level
        context = text if isinstance(text, KeysValues) else self.cross_attention.keys_values(text)
        views = context.k_BSNH.shape[0] // (h_BLD.shape[0] * copies)
        h = h_BLD.unflatten(1, (tables.shape[2], -1))
        shift, scale, gate = for_clips(tables[0:3], len(h))
        y = self.self_attention(modulated(h, shift, scale).flatten(1, 2), None, by, attend)
        h = torch.addcmul(h, gate, _like(y, h))
        h = h.repeat(copies, 1, 1, 1) if copies > 1 else h
        shift, scale, gate = for_clips(tables[3:6], len(h))
        x = rearrange(modulated(h, shift, scale).flatten(1, 2), "b (v l) d -> (b v) l d", v=views)
        y = rearrange(self.cross_attention(x, context), "(b v) l d -> b (v l) d", v=views)
        h = torch.addcmul(h, gate, _like(y, h))
        shift, scale, gate = for_clips(tables[6:9], len(h))
        h = torch.addcmul(h, gate, self.down(F.gelu(self.up(modulated(h, shift, scale)))))
        return h.flatten(1, 2)


def for_clips(tables: Float[Tensor, "N B t 1 D"], clips: int) -> Float[Tensor, "N R t 1 D"]:
    """Modulations of so many clips; those of a batch serve its copies behind it."""
    return tables if tables.shape[1] in (1, clips) else tables.repeat(1, clips // tables.shape[1], 1, 1, 1)


def _like(x_BLD: Tensor, h_BtLD: Tensor) -> Tensor:
    return x_BLD.view(h_BtLD.shape)
