"""The released tokenizers (arXiv 2501.03575, section 4, and their model cards) as data, and small ones beside them."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cosmos_tokenizer.config import TokenizerConfig

FSQ_LEVELS = (8, 8, 8, 5, 5, 5)


def _video(temporal: int, spatial: int, patch: int = 4) -> TokenizerConfig:
    return TokenizerConfig(
        media="video", kind="continuous", spatial_compression=spatial, temporal_compression=temporal, patch_size=patch
    )


def _image(spatial: int, patch: int = 4) -> TokenizerConfig:
    return TokenizerConfig(
        media="image",
        kind="continuous",
        spatial_compression=spatial,
        temporal_compression=1,
        patch_size=patch,
        norm_groups=32,
    )


def _discrete(config: TokenizerConfig, z_channels: int) -> TokenizerConfig:
    return replace(config, kind="discrete", z_channels=z_channels, latent_channels=6, levels=FSQ_LEVELS)


_TOY = TokenizerConfig(
    media="video",
    kind="continuous",
    spatial_compression=8,
    temporal_compression=8,
    patch_size=4,
    channels=8,
    channel_multipliers=(1, 2, 2),
    encoder_blocks=1,
    decoder_blocks=1,
    z_channels=8,
    latent_channels=4,
)

_NANO = TokenizerConfig(
    media="video",
    kind="continuous",
    spatial_compression=8,
    temporal_compression=4,
    patch_size=4,
    channels=48,
    channel_multipliers=(1, 2),
    encoder_blocks=1,
    decoder_blocks=1,
)

_NANO_8 = replace(_NANO, temporal_compression=8, channel_multipliers=(1, 2, 2))

PRESETS: Mapping[str, TokenizerConfig] = MappingProxyType(
    {
        "ci8x8-0.1": _image(8),
        "ci16x16-0.1": _image(16),
        "di8x8-0.1": _discrete(_image(8), 256),
        "di16x16-0.1": _discrete(_image(16), 256),
        "cv4x8x8-0.1": replace(_video(4, 8), channel_multipliers=(2, 4)),
        "cv8x8x8-0.1": _video(8, 8),
        "cv8x16x16-0.1": _video(8, 16),
        "dv4x8x8-0.1": _discrete(_video(4, 8), 16),
        "dv8x8x8-0.1": _discrete(_video(8, 8), 16),
        "dv8x16x16-0.1": _discrete(_video(8, 16), 16),
        "cv8x8x8-720p": _video(8, 8),
        "dv8x16x16-720p": _discrete(_video(8, 16), 16),
        "ci8x8-360p": _image(8, patch=2),
        "ci16x16-360p": _image(16, patch=2),
        "di8x8-360p": _discrete(_image(8, patch=2), 256),
        "di16x16-360p": replace(_discrete(_image(16, patch=2), 256), norm_groups=1),
        "cv4x8x8-360p": _video(4, 8, patch=2),
        "dv4x8x8-360p": _discrete(_video(4, 8, patch=2), 256),
        "toy": _TOY,
        "toy-discrete": _discrete(_TOY, 8),
        "nano-cv4x8x8": _NANO,
        "nano-dv4x8x8": _discrete(_NANO, 16),
        "nano-cv8x8x8": _NANO_8,
        "nano-dv8x16x16": _discrete(replace(_NANO_8, spatial_compression=16), 16),
    }
)
"""Name to config: every released net, ``toy`` for tests, ``nano-*`` whose weights ship with the package."""
