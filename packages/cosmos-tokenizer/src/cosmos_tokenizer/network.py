"""Encoder and decoder of the causal wavelet tokenizer (arXiv 2501.03575, section 4.1), no quantiser, no padding."""

from collections.abc import Iterable, Sequence
from typing import cast

from einops import rearrange
from torch import Tensor, nn

from cosmos_tokenizer import haar
from cosmos_tokenizer.attention import MidBlock
from cosmos_tokenizer.cache import FrameCache, name_memories
from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.layers import FrameNorm, ResBlock, SpatialConv, conv3
from cosmos_tokenizer.resampling import downsample, upsample


class HaarPatch(nn.Module):
    """Clip to wavelet coefficients, frame by frame channels-last."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x_BCTHW: Tensor, *, start: bool) -> Tensor:
        """``B 3 T H W`` to ``B t D h w``."""
        patches = haar.patch(x_BCTHW, patch_size=self.config.patch_size, media=self.config.media, start=start)
        return channels_last(patches)


class HaarUnpatch(nn.Module):
    """Inverse of :class:`HaarPatch`."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x_BTCHW: Tensor, *, start: bool) -> Tensor:
        """``B t D h w`` to ``B 3 T H W``."""
        patches = rearrange(x_BTCHW, "b t c h w -> b c t h w")
        return haar.unpatch(patches, patch_size=self.config.patch_size, media=self.config.media, start=start)


class EncoderLevel(nn.Module):
    """ResBlocks of one resolution, then what halves it."""

    def __init__(self, config: TokenizerConfig, level: int) -> None:
        super().__init__()
        widths = (config.channels, *config.widths)
        self.block = _blocks(config, widths[level], widths[level + 1], config.encoder_blocks)
        self.downsample = downsample(widths[level + 1], config.downsamples[level], config.media)

    def steps(self) -> list[nn.Module]:
        """Layers in order; the network runs them one by one, so that no level holds on to its input."""
        return [*self.block, *([] if self.downsample is None else [self.downsample])]


class DecoderLevel(nn.Module):
    """ResBlocks of one resolution, then what doubles it."""

    def __init__(self, config: TokenizerConfig, level: int) -> None:
        super().__init__()
        widths = (*config.widths, config.widths[-1])
        self.block = _blocks(config, widths[level + 1], widths[level], config.decoder_blocks)
        self.upsample = upsample(widths[level], config.upsamples[level], config.media)

    def steps(self) -> list[nn.Module]:
        """Layers in order; the network runs them one by one, so that no level holds on to its input."""
        return [*self.block, *([] if self.upsample is None else [self.upsample])]


class Encoder(nn.Module):
    """Wavelet patching, resolution levels from high to low, middle block, projection to the latents."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        media, groups, width = config.media, config.norm_groups, config.widths[-1]
        self.patch: nn.Module = HaarPatch(config)
        self.conv_in = conv3(config.patch_channels, config.channels, media)
        self.down = nn.ModuleList(EncoderLevel(config, level) for level in range(len(config.widths)))
        self.mid = MidBlock(width, media=media, groups=groups)
        self.norm_out = FrameNorm(groups, width)
        self.conv_out = conv3(width, config.z_channels, media)
        self.quant_conv: nn.Module = SpatialConv(config.z_channels, config.latent_channels, 1)
        name_memories(self)

    def forward(self, x_BCTHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """Clip ``B 3 T H W``, or the next whole latent frames of one, to latents ``B C t h w`` before quantisation."""
        start = cache is None or not cache.started
        h = self.conv_in(self.patch(x_BCTHW, start=start), cache)
        for step in (step for level in cast("Iterable[EncoderLevel]", self.down) for step in level.steps()):
            h = step(h, cache)
        h = self.conv_out(self.mid(h, cache), cache, before=self.norm_out.silu)
        return rearrange(self.quant_conv(h), "b t c h w -> b c t h w").contiguous()


class Decoder(nn.Module):
    """Projection of the latents, middle block, resolution levels from low to high, inverse wavelet."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        media, groups, width = config.media, config.norm_groups, config.widths[-1]
        self.post_quant_conv = SpatialConv(config.latent_channels, config.z_channels, 1)
        self.conv_in = conv3(config.z_channels, width, media)
        self.mid = MidBlock(width, media=media, groups=groups)
        self.up = nn.ModuleList(DecoderLevel(config, level) for level in range(len(config.widths)))
        self.norm_out = FrameNorm(groups, config.widths[0])
        self.conv_out = conv3(config.widths[0], config.patch_channels, media)
        self.unpatch: nn.Module = HaarUnpatch(config)
        name_memories(self)

    def forward(self, z_BCTHW: Tensor, cache: FrameCache | None = None) -> Tensor:
        """Latents or codes ``B C t h w``, or the next of a clip, to frames ``B 3 T H W``, not clamped."""
        start = cache is None or not cache.started
        h = self.mid(self.conv_in(self.post_quant_conv(channels_last(z_BCTHW)), cache), cache)
        for step in (step for level in reversed(cast("Sequence[DecoderLevel]", self.up)) for step in level.steps()):
            h = step(h, cache)
        h = self.conv_out(h, cache, before=self.norm_out.silu)
        return self.unpatch(h, start=start)


def channels_last(x_BCTHW: Tensor) -> Tensor:
    """``B C T H W`` to ``B T C H W`` whose frames are channels-last in memory."""
    return rearrange(x_BCTHW, "b c t h w -> b t h w c").contiguous().movedim(-1, 2)


def _blocks(config: TokenizerConfig, channels_in: int, channels_out: int, count: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            ResBlock(channels_out if i else channels_in, channels_out, media=config.media, groups=config.norm_groups)
            for i in range(count)
        )
    )
