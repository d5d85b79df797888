"""Config of a native checkpoint, read off the shapes of its tensors (networks of arXiv 2501.03575, section 4).

Shapes say the media, patch, widths, blocks, kind and, where no dead convolutions stand in the file, the compression.
They do not say the groups of GroupNorm: without a preset these are the released network's (32 in most image nets, 1 in
video nets), or 1 where 32 do not divide a width. A number is the one that most of its tensors agree on, so that one
misshapen tensor does not reach the config and is named when shapes are compared.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from cosmos_tokenizer.config import Media, Resample, TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import Parts
from cosmos_tokenizer.presets import FSQ_LEVELS, PRESETS

Shapes = Mapping[str, tuple[int, ...]]
Plan = tuple[Resample, ...]

_PATCH_SIZES = (1, 2, 4, 8)
_RELEASED = {name: config for name, config in PRESETS.items() if not name.startswith(("toy", "nano"))}


@dataclass(frozen=True, slots=True)
class _Ladder:
    """The resolution levels of one half, highest resolution first."""

    prefix: str
    resampling: str
    convolutions: tuple[str, str]
    """Names of the convolutions that resample space and time."""
    widths: tuple[int, ...]
    blocks: int
    held: Plan
    """The resampling convolutions that the file holds."""
    all_held: bool
    """Every level that could resample holds all of them, as in the 2024 files: some may be dead."""


def config_of(
    shapes: Shapes, *, levels: tuple[int, ...] | None, preset: TokenizerConfig | None
) -> tuple[TokenizerConfig, Parts]:
    """Config and halves of a native file, full or pruned.

    Args:
        shapes: native names to shapes, without buffers.
        levels: of the quantiser, where the file holds its buffers.
        preset: what shapes do not say is taken from it; what they say must agree with it, widths excepted.

    Raises:
        InputError: the shapes are of no network, leave several networks possible, or contradict ``preset``.
    """
    media: Media = "video" if any(name.endswith(".conv3d.weight") for name in shapes) else "image"
    if preset is not None and preset.media != media:
        raise InputError(f"the preset is a tokenizer of {preset.media}, and the file holds one of {media}")
    encoder = _ladder(shapes, media, "encoder.down.", "downsample")
    decoder = _ladder(shapes, media, "decoder.up.", "upsample")
    if encoder and decoder and encoder.widths != decoder.widths:
        raise InputError(
            f"the encoder has {len(encoder.widths)} levels, {encoder.widths} wide, and the decoder "
            f"{len(decoder.widths)}, {decoder.widths} wide: the file is truncated, or they are halves of two networks"
        )
    ladder = encoder or decoder
    if ladder is None:
        raise InputError(
            "key encoder.down.0.block.0 is missing, and so is decoder.up.0.block.0: no half is in the file"
        )

    patch = _patch_size(shapes, media, preset)
    latent_channels = _vote(shapes, ("quant_conv.", 0), ("post_quant_conv.", 1))
    levels = _quantiser_levels(latent_channels, levels, preset)
    channels = _base_width(shapes, ladder.widths, preset)
    first = "decoder.conv_in.0." if media == "video" else "decoder.conv_in."
    bare = TokenizerConfig(
        media=media,
        kind="discrete" if levels else "continuous",
        spatial_compression=patch,
        temporal_compression=patch if media == "video" else 1,
        patch_size=patch,
        channels=channels,
        channel_multipliers=tuple(width // channels for width in ladder.widths),
        encoder_blocks=encoder.blocks if encoder else preset.encoder_blocks if preset else max(1, ladder.blocks - 1),
        decoder_blocks=decoder.blocks if decoder else preset.decoder_blocks if preset else ladder.blocks + 1,
        z_channels=_vote(shapes, ("encoder.conv_out.", 0), ("quant_conv.", 1), (first, 1), ("post_quant_conv.", 0)),
        latent_channels=latent_channels,
        levels=levels,
    )
    config = _with_compression(bare, encoder, decoder, preset)
    groups = preset.norm_groups if preset else usual_groups(config)
    if encoder is None and config.channels % groups:
        # The base width is a guess here, and no norm of a decoder has it: only widths in the file rule out groups.
        base = math.gcd(*ladder.widths)
        config = replace(config, channels=base, channel_multipliers=tuple(width // base for width in ladder.widths))
    odd = next((width for width in (config.channels, *config.widths) if width % groups), None)
    if odd is not None and preset is not None:
        raise InputError(f"the preset has norm_groups {groups}, which does not divide the file's width {odd}")
    if odd is not None:
        groups = 1
    parts: Parts = "both" if encoder and decoder else "encoder" if encoder else "decoder"
    return replace(config, norm_groups=groups), parts


def check_preset(config: TokenizerConfig, preset: TokenizerConfig) -> None:
    """Raise where ``preset`` contradicts a config that is known, widths excepted.

    Raises:
        InputError: naming the first field that differs.
    """
    for field in ("media", "kind", "patch_size", "temporal_compression", "spatial_compression"):
        if getattr(config, field) != getattr(preset, field):
            raise InputError(f"the preset has {field} {getattr(preset, field)}, and the file {getattr(config, field)}")


def _ladder(shapes: Shapes, media: Media, prefix: str, resampling: str) -> _Ladder | None:
    if not any(name.startswith(prefix.split(".")[0] + ".") for name in shapes):
        return None
    sites = [re.match(rf"{re.escape(prefix)}(\d+)\.block\.(\d+)\.", name) for name in shapes]
    found = [(int(site[1]), int(site[2])) for site in sites if site]
    count = max((level for level, _ in found), default=0) + 1
    widths = tuple(_vote(shapes, (f"{prefix}{level}.block.", 0)) for level in range(count))
    # In a downsample the first convolution is the spatial one, in an upsample the temporal one.
    convolutions = ("conv1", "conv2") if resampling == "downsample" else ("conv2", "conv1")
    if media == "image":
        convolutions = ("conv", "conv_t")  # An image net has none over time.

    def holds(level: int, convolution: str) -> bool:
        return any(name.startswith(f"{prefix}{level}.{resampling}.{convolution}.") for name in shapes)

    space, time = convolutions
    held = tuple(Resample(spatial=holds(i, space), temporal=holds(i, time)) for i in range(count))
    able = held[:-1] if resampling == "downsample" else held[1:]
    all_held = media == "video" and count > 1 and all(level.spatial and level.temporal for level in able)
    return _Ladder(
        prefix=prefix,
        resampling=resampling,
        convolutions=convolutions,
        widths=widths,
        blocks=max(block for _, block in found) + 1,
        held=held,
        all_held=all_held,
    )


def _vote(shapes: Shapes, *sites: tuple[str, int]) -> int:
    """The size that most tensors give whose names start with a site's prefix, in the axis of that site."""
    votes = Counter(
        shape[axis]
        for prefix, axis in sites
        for name, shape in shapes.items()
        if name.startswith(prefix) and len(shape) > axis
    )
    if not votes:
        raise InputError(f"every key {sites[0][0]}* is missing: the file is truncated or of another network")
    return votes.most_common(1)[0][0]


def _patch_size(shapes: Shapes, media: Media, preset: TokenizerConfig | None) -> int:
    first = "encoder.conv_in.0." if media == "video" else "encoder.conv_in."
    coefficients = _vote(shapes, (first, 1), ("decoder.conv_out.", 0))
    sizes = {3 * size ** (3 if media == "video" else 2): size for size in _PATCH_SIZES}
    if coefficients not in sizes:
        raise InputError(
            f"key {first}weight or decoder.conv_out has {coefficients} channels of wavelet coefficients, "
            f"and {media} tokenizers have one of {sorted(sizes)}"
        )
    if preset is not None and preset.patch_size != sizes[coefficients]:
        raise InputError(f"the preset has patch_size {preset.patch_size}, and the file {sizes[coefficients]}")
    return sizes[coefficients]


def _quantiser_levels(
    latent_channels: int, held: tuple[int, ...] | None, preset: TokenizerConfig | None
) -> tuple[int, ...]:
    """FSQ levels, () if continuous. Without buffers, six latent channels mean the quantiser of all released nets."""
    six = latent_channels == len(FSQ_LEVELS)
    if preset is None:
        return held or (FSQ_LEVELS if six else ())
    if preset.kind == "discrete":
        if len(preset.levels) != latent_channels or (held and held != preset.levels):
            raise InputError(
                f"the preset is discrete with levels {preset.levels}, and the file holds "
                + (f"levels {held}" if held else f"{latent_channels} latent channels, those of a continuous tokenizer")
            )
        return preset.levels
    if held or (six and preset.latent_channels != latent_channels):
        raise InputError(
            f"the preset is continuous, and the file holds a discrete tokenizer of levels {held or FSQ_LEVELS}"
        )
    return ()


def _base_width(shapes: Shapes, widths: tuple[int, ...], preset: TokenizerConfig | None) -> int:
    """Width before the first level, which every level's is a multiple of; a decoder alone does not hold it."""
    if any(name.startswith("encoder.") for name in shapes):
        base = _vote(shapes, ("encoder.conv_in.", 0), ("encoder.down.0.block.0.norm1.", 0))
        if any(width % base for width in widths):
            raise InputError(
                f"levels are {widths} wide: each must be a multiple of the {base} channels of encoder.conv_in"
            )
        return base
    multiplier = preset.channel_multipliers[0] if preset else 2
    whole = widths[0] % multiplier == 0 and all(width % (widths[0] // multiplier) == 0 for width in widths)
    return widths[0] // multiplier if whole else math.gcd(*widths)


def _with_compression(
    bare: TokenizerConfig, encoder: _Ladder | None, decoder: _Ladder | None, preset: TokenizerConfig | None
) -> TokenizerConfig:
    """The config whose resampling is what the file holds, among all that these levels could have."""
    misfits = {
        config: [*_misfit(encoder, config.downsamples), *_misfit(decoder, config.upsamples)] for config in _all(bare)
    }
    fits = [config for config, wrong in misfits.items() if not wrong]
    if not fits:
        nearest, wrong = min(misfits.items(), key=lambda item: (len(item[1]), item[1][0].endswith("unexpected")))
        if wrong[0].endswith("missing"):
            return nearest  # The check of all keys names the first one that is missing.
        raise InputError(f"{wrong[0]}: the file is of another network")
    if preset is not None:
        agreed = [config for config in fits if _compression(config) == _compression(preset)]
        if not agreed:
            raise InputError(
                f"the preset compresses {_compression(preset)}, and the file's convolutions between levels "
                "are those of " + " or ".join(sorted({_compression(config) for config in fits}))
            )
        return next((c for c in agreed if c.legacy_upsample == preset.legacy_upsample), agreed[0])
    released = {
        name: config
        for name, config in _RELEASED.items()
        if _family(config) == _family(bare) and _compression(config) in {_compression(fit) for fit in fits}
    }
    # A half on its own does not tell the order of upsampling: the order of every released net comes first.
    if len({_compression(config) for config in fits}) == 1:
        return fits[0]
    if len({_compression(config) for config in released.values()}) == 1:
        (name, *_) = released
        return next(config for config in fits if _compression(config) == _compression(released[name]))
    names = ", ".join(released) or "a TokenizerConfig"
    raise InputError(f"its shapes do not tell how much it compresses: say which network it is by preset= ({names})")


def _all(bare: TokenizerConfig) -> Iterator[TokenizerConfig]:
    steps = [2**n for n in range(len(bare.channel_multipliers) + 1)]
    for legacy in (False, True):
        for space in steps:
            for time in steps if bare.media == "video" else (1,):
                # A compression that these levels cannot carry is no config.
                with suppress(InputError):
                    yield replace(
                        bare,
                        spatial_compression=bare.spatial_compression * space,
                        temporal_compression=bare.temporal_compression * time,
                        legacy_upsample=legacy,
                    )


def _misfit(ladder: _Ladder | None, plan: Plan) -> Iterator[str]:
    """What the file lacks of a plan, or holds beyond it where it cannot be dead."""
    if ladder is None:
        return
    for level, (wanted, held) in enumerate(zip(plan, ladder.held, strict=True)):
        for axis, convolution in zip(("spatial", "temporal"), ladder.convolutions, strict=True):
            key = f"key {ladder.prefix}{level}.{ladder.resampling}.{convolution}"
            if getattr(wanted, axis) and not getattr(held, axis):
                yield f"{key} is missing"
            elif getattr(held, axis) and not getattr(wanted, axis) and not ladder.all_held:
                yield f"{key} is unexpected"


def _compression(config: TokenizerConfig) -> str:
    return f"{config.temporal_compression}x{config.spatial_compression}x{config.spatial_compression}"


def _family(config: TokenizerConfig) -> tuple[str, str, int, int]:
    return config.media, config.kind, config.patch_size, len(config.channel_multipliers)


def usual_groups(config: TokenizerConfig) -> int:
    """Groups of GroupNorm in the released net of this media, kind, patch and spatial compression, else in its media."""
    for released in _RELEASED.values():
        if (*_family(released)[:3], released.spatial_compression) == (*_family(config)[:3], config.spatial_compression):
            return released.norm_groups
    return 32 if config.media == "image" else 1
