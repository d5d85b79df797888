"""diffusers' AutoencoderKLCosmos, a continuous video tokenizer: its names, config and statistics against ours.

Tensors have the native shapes; names differ, and the levels of the decoder count in the order of execution.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.native import slots as native_slots
from cosmos_tokenizer.native_config import check_preset
from cosmos_tokenizer.slots import Slot, checked_statistics, put, take
from cosmos_tokenizer.statistics import LatentStatistics

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
_CLASS = "AutoencoderKLCosmos"

_NAMES = (
    (r"^encoder\.down\.", "encoder.down_blocks."),
    (r"\.block\.", ".resnets."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.0\.", ".mid_block.attentions.0."),
    (r"\.mid\.attn_1\.1\.", ".mid_block.temp_attentions.0."),
    (r"\.([qkv])\.conv3d\.", r".to_\1."),
    (r"\.proj_out\.conv3d\.", ".to_out.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.0\.conv3d\.", ".conv_s."),
    (r"\.1\.conv3d\.", ".conv_t."),
    (r"\.conv3d\.", "."),
)


def is_diffusers(weights: Mapping[str, Tensor]) -> bool:
    """Whether some names are those of diffusers' autoencoders."""
    return any(re.match(r"(en|de)coder\.(down_blocks|up_blocks|mid_block)\.", name) for name in weights)


def slots(config: TokenizerConfig) -> dict[str, Slot]:
    """Our parameter names to their places in a diffusers file."""
    last = len(config.channel_multipliers) - 1
    return {
        here: Slot(_name(slot.name, last), slot.shape, slot.shape_here)
        for here, slot in native_slots(config, "both").items()
    }


def from_diffusers(
    weights: Mapping[str, Tensor], fields: Mapping[str, object], preset: TokenizerConfig | None
) -> tuple[TokenizerConfig, dict[str, Tensor], LatentStatistics | None]:
    """Config, our state dict and statistics of a diffusers file's tensors and the fields of its config.json.

    Raises:
        InputError: the config is of something that this package does not build, or does not belong to the tensors.
    """
    config = _config(fields)
    if preset is not None:
        check_preset(config, preset)
    return config, take(weights, slots(config)), _statistics(fields, config.latent_channels)


def to_diffusers(model: CausalTokenizer) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and config.json of a model.

    Raises:
        InputError: diffusers has no class for such a network.
    """
    config = model.config
    reason = _unsupported(model)
    if reason:
        raise InputError(f"diffusers' {_CLASS} has no place for this tokenizer: {reason}")
    decoder = (*config.widths, config.widths[-1])
    statistics = model.statistics
    fields: dict[str, object] = {
        "_class_name": _CLASS,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": config.latent_channels,
        "encoder_block_out_channels": [config.channels, *config.widths],
        "decode_block_out_channels": list(decoder),
        # At a nominal resolution of 1024 no released net has attention outside its middle block.
        "attention_resolutions": [],
        "resolution": 1024,
        "num_layers": config.encoder_blocks,
        "patch_size": config.patch_size,
        "patch_type": "haar",
        "scaling_factor": 1.0,
        "spatial_compression_ratio": config.spatial_compression,
        "temporal_compression_ratio": config.temporal_compression,
        # Null and not absent: absent means the statistics of one released net to diffusers.
        "latents_mean": statistics.mean.flatten().tolist() if statistics else None,
        "latents_std": statistics.std.flatten().tolist() if statistics else None,
    }
    return put(model, slots(config)), fields


def read_config(path: Path) -> Mapping[str, object]:
    """Fields of a config.json.

    Raises:
        InputError: it is not JSON, or not of AutoencoderKLCosmos.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    name = fields.get("_class_name") if isinstance(fields, dict) else None
    if name != _CLASS:
        raise InputError(f"{path} has _class_name {name!r}: only {_CLASS} is read")
    return fields


def _name(native: str, last: int) -> str:
    name = re.sub(r"^decoder\.up\.(\d+)", lambda level: f"decoder.up_blocks.{last - int(level[1])}", native)
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _config(fields: Mapping[str, object]) -> TokenizerConfig:
    for name, only in (("in_channels", 3), ("out_channels", 3), ("patch_type", "haar")):
        if fields.get(name, only) != only:
            raise InputError(f"config.json has {name} {fields[name]!r}: only {only!r} is built here")
    try:
        encoder = _integers(fields.get("encoder_block_out_channels", [128, 256, 512, 512]))
        decoder = _integers(fields.get("decode_block_out_channels", [256, 512, 512, 512]))
        (latent,) = _integers([fields.get("latent_channels", 16)])
        (blocks,) = _integers([fields.get("num_layers", 2)])
        (patch,) = _integers([fields.get("patch_size", 4)])
        (space,) = _integers([fields.get("spatial_compression_ratio", 8)])
        (time,) = _integers([fields.get("temporal_compression_ratio", 8)])
    except (TypeError, ValueError) as error:
        raise InputError(f"config.json has a field that is no number or list of numbers: {error}") from error
    base, *widths = encoder or (0,)
    if not widths or decoder != (*widths, widths[-1]) or base < 1 or any(width % base for width in widths):
        raise InputError(
            f"config.json has encoder_block_out_channels {list(encoder)} and decode_block_out_channels "
            f"{list(decoder)}: only one set of widths for both halves, multiples of the first, is built here"
        )
    return TokenizerConfig(
        media="video",
        kind="continuous",
        spatial_compression=space,
        temporal_compression=time,
        patch_size=patch,
        channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        encoder_blocks=blocks,
        decoder_blocks=blocks + 1,
        z_channels=latent,
        latent_channels=latent,
    )


def _integers(values: object) -> tuple[int, ...]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, int) for value in values):
        raise TypeError(repr(values))
    return tuple(values)


def _statistics(fields: Mapping[str, object], channels: int) -> LatentStatistics | None:
    mean, std = fields.get("latents_mean"), fields.get("latents_std")
    if mean is None or std is None:
        return None
    try:
        mean_CF, std_CF = (torch.tensor(values, dtype=torch.float32).view(channels, -1) for values in (mean, std))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"config.json: latents_mean and latents_std are not {channels} rows of numbers") from error
    if mean_CF.shape != std_CF.shape or mean_CF.numel() == 0:
        raise InputError(f"config.json has {mean_CF.numel()} latents_mean and {std_CF.numel()} latents_std")
    return checked_statistics(mean_CF, std_CF)


def _unsupported(model: CausalTokenizer) -> str | None:
    config = model.config
    if config.media != "video" or config.kind != "continuous":
        return f"it is a {config.kind} {config.media} one, and only continuous video is there"
    if model.encoder is None or model.decoder is None:
        return "it is one half, and both are needed"
    if config.norm_groups != 1:
        return f"norm_groups is {config.norm_groups}, and 1 is needed"
    if config.z_channels != config.latent_channels:
        return (
            f"z_channels is {config.z_channels} and latent_channels {config.latent_channels}, and one number is needed"
        )
    if config.decoder_blocks != config.encoder_blocks + 1:
        return (
            f"decoder_blocks is {config.decoder_blocks}, and encoder_blocks + 1 = {config.encoder_blocks + 1} is needed"
        )
    if config.legacy_upsample and any(level.temporal for level in config.upsamples):
        return "legacy_upsample is True, and it doubles time in the other order"
    if config.upsamples[0]:
        return "it doubles its size after the last level, and none does there"
    return None
