"""The diffusion transformer (arXiv 2501.03575, section 5.1): noisy latents to raw output. Read this first."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from cosmos_diffusion.block import Block, KeysValues, Tables, for_clips
from cosmos_diffusion.channels import Conditions, InputChannels
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.nn import Attend, Linear, attention, modulated
from cosmos_diffusion.noise_level import Modulation, NoiseEmbedding, NoiseLevel
from cosmos_diffusion.patches import patchify, unpatchify
from cosmos_diffusion.positions import LearnedPosition, RotaryGrid, SineCosinePosition
from cosmos_tokenizer import InputError


class Text(NamedTuple):
    """Text as the blocks' cross-attentions ask for it, the same for every step: see ``DiT.prepare_text``."""

    blocks: tuple[KeysValues, ...]


class Level(NamedTuple):
    """All modulations of some noise levels, which follow from those alone: see ``DiT.prepare_level``."""

    blocks: tuple[Tables, ...]
    last: Float[Tensor, "2 B t 1 D"]


class Part(NamedTuple):
    """Some frames of each view of a clip, of which other processes have the rest: see ``cosmos_diffusion.parallel``.

    shares: frames of a view that each process has, in tokens, in their order.
    rank: which of the processes this is.
    attend: lets its tokens see those of all.
    """

    shares: tuple[int, ...] = ()
    rank: int = 0
    attend: Attend = attention

    @property
    def first(self) -> int:
        """Index of the part's first frame, in tokens."""
        return sum(self.shares[: self.rank])


_WHOLE = Part()

BehindFirst = Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor]
"""Tokens before and after the first block, and the blocks behind it, to the tokens after all of them."""


class DiT(nn.Module):
    """One class for training and inference, for every conditioning of the family."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = InputChannels(config)
        t, h, w = config.patch
        self.patch = Linear(config.input_channels * t * h * w, config.width)
        self.rotary = RotaryGrid(config)
        self.position: LearnedPosition | SineCosinePosition | None = None
        if config.position != "none":
            self.position = (LearnedPosition if config.position == "learned" else SineCosinePosition)(config)
        self.noise = NoiseEmbedding(config)
        projected = config.text_projection
        self.text = Linear(projected, config.text_width, bias=True) if projected else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.last_modulation = Modulation(config, 2)
        self.last = Linear(config.width, config.latent_channels * t * h * w)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random weights as the released code draws them: linears by Xavier, the noise path at 0.02, gates shared.

        What a fine-tune adds (actions, tokens) begins at zero.
        """
        for module in self.modules():
            if isinstance(module, Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in (self.noise.up, self.noise.down):
            nn.init.normal_(layer.weight, std=0.02)
        for block in self.blocks:
            assert isinstance(block, Block)
            for modulation in block.modulations:
                assert isinstance(modulation, Modulation)
                nn.init.zeros_(modulation.up.weight)
        for mlp in (self.noise.action_shared, self.noise.action_embedding):
            if mlp is not None:
                nn.init.zeros_(mlp.down.weight)

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the weights, in which the network runs."""
        return self.patch.weight.dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.patch.weight.device

    def forward(
        self,
        latents: Float[Tensor, "B C T H W"],
        c_noise: Float[Tensor, " B"] | Float[Tensor, "B T"] | Level,
        text: Float[Tensor, "B S K"] | Text,
        *,
        fps: int | float | None,
        condition_mask: Float[Tensor, "B 1 T H W"] | None = None,
        padding_mask: Float[Tensor, "#B 1 Y X"] | None = None,
        camera: Float[Tensor, "B 6 T H W"] | None = None,
        tokens: Int[Tensor, "B T h w"] | None = None,
        action: Float[Tensor, "B A"] | None = None,
        views: Int[Tensor, "B V"] | None = None,
        repeats: Float[Tensor, "B V"] | None = None,
        trajectory: Float[Tensor, "B 64 3"] | None = None,
        part: Part = _WHOLE,
        behind_first: BehindFirst | None = None,
        copies: int = 1,
    ) -> Float[Tensor, "R C T H W"]:
        """The raw output ``F`` of equation 7 of arXiv 2206.00364, in the dtype of the weights.

        Args:
            latents: scaled noisy latents, sides multiples of the patch; of views one behind another in time.
            c_noise: noise level of each clip or of each of its latent frames, or :meth:`prepare_level` of it.
            text: embeddings of the prompt, ``text_length`` vectors where padding is all zeros and takes part: released
                nets need it at this length. With views, the text of each behind one another. Or :meth:`prepare_text`.
            fps: of the video, or None for pictures.
            condition_mask, padding_mask, camera, tokens, action, views, repeats, trajectory: see ``Conditions``.
            part: of what clip all the above is a part; itself by default.
            behind_first: is given the tokens before and after the first block, and a function that runs the blocks
                behind it, and returns the tokens after these: see ``StepCache``.
            copies: of all clips, one batch behind another, which differ by their text alone: ``R = B copies`` clips
                come back, and ``text`` is prepared of so many. What their text has no part in is done once.

        Raises:
            InputError: a shape does not fit the network, or something is given that it has no place for.
        """
        given = Conditions(condition_mask, padding_mask, camera, tokens, action, views, repeats, trajectory)
        given.check(self.config)
        count, sizes = self.layout(latents, views)
        x_BCTHW = self.channels(latents.to(self.dtype), given, count)
        h_BLD = rearrange(self.patch(patchify(x_BCTHW, self.config.patch)), "b t h w d -> b (t h w) d")
        by = self.rotary(sizes, fps, views=count, device=h_BLD.device, first=part.first)
        position = None
        if self.position is not None:
            position = self.position(sizes, views=count, device=h_BLD.device, first=part.first).to(h_BLD.dtype)
        level = c_noise if isinstance(c_noise, Level) else self.noise_level(c_noise, action)
        context = text if isinstance(text, Text) else self._projected(text, count)

        def through(h_BLD: Tensor, index: int) -> Tensor:
            more = (copies,) if copies > 1 and index == 0 else ()
            return self.blocks[index](
                h_BLD,
                level.blocks[index] if isinstance(level, Level) else level,
                context.blocks[index] if isinstance(context, Text) else context,
                by,
                position,
                part.attend,
                *more,
            )

        def rest(h_BLD: Tensor) -> Tensor:
            for index in range(1, len(self.blocks)):
                h_BLD = through(h_BLD, index)
            return h_BLD

        if behind_first is None:
            for index in range(len(self.blocks)):
                h_BLD = through(h_BLD, index)
        else:
            h_BLD = behind_first(h_BLD, through(h_BLD, 0), rest)
        shift, scale = for_clips(level.last if isinstance(level, Level) else self.last_modulation(level), len(h_BLD))
        y = self.last(modulated(h_BLD.unflatten(1, (shift.shape[1], -1)), shift, scale))
        t, h, w = sizes
        return unpatchify(rearrange(y, "b s l d -> b (s l) d").unflatten(1, (count * t, h, w)), self.config.patch)

    def layout(
        self, latents: Float[Tensor, "B C T H W"], views: Int[Tensor, "B V"] | None = None
    ) -> tuple[int, tuple[int, int, int]]:
        """How many views there are, and the frames, rows and columns of each in tokens.

        Raises:
            InputError: the latents do not fit the network.
        """
        count = self._views(views, latents)
        return count, self._sizes(latents, count)

    def noise_level(
        self, c_noise: Float[Tensor, " B"] | Float[Tensor, "B T"], action: Float[Tensor, "B A"] | None = None
    ) -> NoiseLevel:
        """What the modulations are made from."""
        c_noise_Bt = c_noise[:, None] if c_noise.dim() == 1 else c_noise
        return self.noise(c_noise_Bt, action, self.dtype)

    def prepare_level(
        self, c_noise: Float[Tensor, " B"] | Float[Tensor, "B T"], *, action: Float[Tensor, "B A"] | None = None
    ) -> Level:
        """Every modulation of some noise levels, worked out once for all forwards at those levels."""
        level = self.noise_level(c_noise, action)
        return Level(tuple(block.tables(level) for block in self._typed()), self.last_modulation(level))

    def prepare_text(self, text: Float[Tensor, "B S K"], *, views: int = 1, padding: int = 0) -> Text:
        """Keys and values of every cross-attention, worked out once for all steps.

        Args:
            text: embeddings of the prompt; with views, the text of each behind one another.
            views: how many.
            padding: vectors at the end of each text that are all alike, as those of padding are, which takes part. In
                float32 one of them then stands for all, with as much weight, and attention costs that much less. (In
                half precision that weight would be too coarse, and they are left as they are.)

        Raises:
            InputError: the text does not fit the network, or is shorter than its padding.
        """
        bias_S = None
        if padding > 1 and self.dtype.itemsize >= 4 and self._typed()[0].cross_attention.backend == "sdpa":
            text_BVSK = text.unflatten(1, (views, -1))
            kept = text_BVSK.shape[2] - padding + 1
            if kept < 1:
                raise InputError(f"padding is {padding}: a text has {text_BVSK.shape[2]} vectors")
            text = text_BVSK[:, :, :kept].flatten(1, 2)
            bias_S = F.pad(torch.zeros(kept - 1, dtype=self.dtype, device=self.device), (0, 1), value=math.log(padding))
        context = self._projected(text, views)
        return Text(
            tuple(block.cross_attention.keys_values(context)._replace(bias_S=bias_S) for block in self._typed())
        )

    def _typed(self) -> Sequence[Block]:
        return list(self.blocks)  # pyright: ignore[reportReturnType]

    def _projected(self, text_BSK: Tensor, views: int) -> Tensor:
        width = self.config.text_projection or self.config.text_width
        if text_BSK.dim() != 3 or text_BSK.shape[-1] != width or text_BSK.shape[1] % views:
            raise InputError(f"text has shape {tuple(text_BSK.shape)}: this network takes B x S x {width}")
        text_BSD = text_BSK.to(self.dtype)
        if self.text is not None:
            text_BSD = F.gelu(self.text(text_BSD))
        return rearrange(text_BSD, "b (v s) d -> (b v) s d", v=views)

    def _views(self, views: Tensor | None, latents: Tensor) -> int:
        if not self.config.views:
            return 1
        count = self.config.views if views is None else views.shape[1]
        if latents.shape[2] % count:
            raise InputError(f"latents have {latents.shape[2]} frames: {count} views need a multiple of {count}")
        return count

    def _sizes(self, latents: Tensor, views: int) -> tuple[int, int, int]:
        channels, frames, *sides = latents.shape[1:]
        if channels != self.config.latent_channels:
            raise InputError(f"latents have {channels} channels: this network takes {self.config.latent_channels}")
        sizes = (frames // views, *sides)
        for name, size, patch, most in zip(
            ("frames", "rows", "columns"), sizes, self.config.patch, self.config.grid, strict=True
        ):
            if size % patch or not 0 < size <= most:
                raise InputError(f"latents have {size} {name}: give a multiple of {patch}, at most {most}")
        t, h, w = (size // patch for size, patch in zip(sizes, self.config.patch, strict=True))
        return t, h, w
