"""Encoder and decoder of the causal wavelet tokenizer (arXiv 2501.03575, section 4.1), no quantiser, no padding."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from cosmos_tokenizer import haar
from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.layers import FrameNorm, MidBlock, ResBlock, SpatialConv, conv3, downsample, upsample


class EncoderLevel(nn.Module):
    """ResBlocks of one resolution, then what halves it."""

    def __init__(self, config: TokenizerConfig, level: int) -> None:
        super().__init__()
        widths = (config.channels, *config.widths)
        self.block = _blocks(config, widths[level], widths[level + 1], config.encoder_blocks)
        self.downsample = downsample(widths[level + 1], config.downsamples[level], config.media)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to the next level's resolution."""
        return self.downsample(self.block(x_BTCHW))


class DecoderLevel(nn.Module):
    """ResBlocks of one resolution, then what doubles it."""

    def __init__(self, config: TokenizerConfig, level: int) -> None:
        super().__init__()
        widths = (*config.widths, config.widths[-1])
        self.block = _blocks(config, widths[level + 1], widths[level], config.decoder_blocks)
        self.upsample = upsample(widths[level], config.upsamples[level], config.media)

    def forward(self, x_BTCHW: Tensor) -> Tensor:
        """``B T C H W`` to the next level's resolution."""
        return self.upsample(self.block(x_BTCHW))


class Encoder(nn.Module):
    """Wavelet patching, resolution levels from high to low, middle block, projection to the latents."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        media, groups, width = config.media, config.norm_groups, config.widths[-1]
        self.conv_in = conv3(config.patch_channels, config.channels, media)
        self.down = nn.ModuleList(EncoderLevel(config, level) for level in range(len(config.widths)))
        self.mid = MidBlock(width, media=media, groups=groups)
        self.norm_out = FrameNorm(groups, width)
        self.conv_out = conv3(width, config.z_channels, media)
        self.quant_conv = SpatialConv(config.z_channels, config.latent_channels, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Clip ``B 3 T H W`` to latents ``B C t h w``, before any quantisation."""
        patches = haar.patch(x_BCTHW, patch_size=self.config.patch_size, media=self.config.media)
        h = self.conv_in(_channels_last(patches))
        for level in self.down:
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return rearrange(self.quant_conv(h), "b t c h w -> b c t h w").contiguous()


class Decoder(nn.Module):
    """Projection of the latents, middle block, resolution levels from low to high, inverse wavelet."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        media, groups, width = config.media, config.norm_groups, config.widths[-1]
        self.post_quant_conv = SpatialConv(config.latent_channels, config.z_channels, 1)
        self.conv_in = conv3(config.z_channels, width, media)
        self.mid = MidBlock(width, media=media, groups=groups)
        self.up = nn.ModuleList(DecoderLevel(config, level) for level in range(len(config.widths)))
        self.norm_out = FrameNorm(groups, config.widths[0])
        self.conv_out = conv3(config.widths[0], config.patch_channels, media)

    def forward(self, z_BCTHW: Tensor) -> Tensor:
        """Latents or codes ``B C t h w`` to a clip ``B 3 T H W``, not clamped."""
        h = self.mid(self.conv_in(self.post_quant_conv(_channels_last(z_BCTHW))))
        for level in reversed(self.up):
            h = level(h)
        h = self.conv_out(F.silu(self.norm_out(h)))
        patches = rearrange(h, "b t c h w -> b c t h w")
        return haar.unpatch(patches, patch_size=self.config.patch_size, media=self.config.media)


def _channels_last(x_BCTHW: Tensor) -> Tensor:
    return rearrange(x_BCTHW, "b c t h w -> b t h w c").contiguous().movedim(-1, 2)


def _blocks(config: TokenizerConfig, channels_in: int, channels_out: int, count: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            ResBlock(channels_out if i else channels_in, channels_out, media=config.media, groups=config.norm_groups)
            for i in range(count)
        )
    )
