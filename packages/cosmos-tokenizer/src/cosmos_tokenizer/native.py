"""NVIDIA's native checkpoint layout: its names and shapes against ours (networks of arXiv 2501.03575, section 4).

Released files also hold what no forward pass reads: wavelet and quantiser buffers, and in two 2024 files the
convolutions of levels that do not resample. Both are dropped here.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cosmos_tokenizer import tensor_files
from cosmos_tokenizer.config import Media, TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer, Parts
from cosmos_tokenizer.native_config import config_of
from cosmos_tokenizer.slots import Slot, checked_statistics, put, shapes_here, take
from cosmos_tokenizer.statistics import LatentStatistics

STATISTICS_FILE = "mean_std.pt"
_EMA = "ema.network-"
_NETWORK = "network."
_BUFFER = re.compile(r"((en|de)coder\.(un)?patcher(3d)?|(inv_quant\.)?quantizer)\.")
_RESAMPLING = re.compile(r"(encoder\.down\.\d+\.down|decoder\.up\.\d+\.up)sample\.conv[123]\.conv3d\.")

# In a downsample the first convolution is the spatial one, in an upsample the temporal one.
_VIDEO = (
    ("downsample.spatial", "downsample.conv1"),
    ("downsample.temporal", "downsample.conv2"),
    ("downsample.mix", "downsample.conv3"),
    ("upsample.temporal", "upsample.conv1"),
    ("upsample.spatial", "upsample.conv2"),
    ("upsample.mix", "upsample.conv3"),
    ("spatial_attention", "attn_1.0"),
    ("temporal_attention", "attn_1.1"),
    (".spatial.", ".0."),
    (".temporal.", ".1."),
)
_IMAGE = (("spatial_attention", "attn_1"),)
_ALWAYS = (
    ("encoder.quant_conv", "quant_conv"),
    ("decoder.post_quant_conv", "post_quant_conv"),
    ("shortcut", "nin_shortcut"),
    (".proj.", ".proj_out."),
)


def slots(config: TokenizerConfig, parts: Parts) -> dict[str, Slot]:
    """Our parameter names to their places in a native file, dead convolutions left out."""
    return {
        here: Slot(_native_name(here, config.media), _native_shape(shape, config.media), shape)
        for here, shape in shapes_here(config, parts).items()
    }


def is_native(weights: Mapping[str, Tensor]) -> bool:
    """Whether some names are those of a native file, with or without the prefixes of a training checkpoint."""
    return any(re.match(r"((en|de)coder\.|(post_)?quant_conv\.)", name) for name in without_prefix(weights))


def from_native(
    weights: Mapping[str, Tensor], preset: TokenizerConfig | None
) -> tuple[TokenizerConfig, Parts, dict[str, Tensor]]:
    """Config, halves present, and our state dict, of a native file's tensors.

    Of a training checkpoint the averaged weights are taken where it has them, since averaging is there to give the
    weights that are used; else the current ones.

    Args:
        weights: tensors of the file (or of an encoder and a decoder file together).
        preset: supplies what shapes cannot say; widths come from the file.

    Raises:
        InputError: the tensors are of no network, or ``preset`` contradicts them.
    """
    weights = without_prefix(weights)
    levels = next((value.tolist() for name, value in weights.items() if name.endswith("quantizer._levels")), None)
    shapes = {name: tuple(value.shape) for name, value in weights.items() if not _BUFFER.match(name)}
    config, parts = config_of(shapes, levels=None if levels is None else tuple(levels), preset=preset)
    return config, parts, take(weights, slots(config, parts), ignored=_is_dead)


def to_native(model: CausalTokenizer, parts: Parts) -> dict[str, Tensor]:
    """State dict of a model under native names: the pruned key set, without buffers."""
    return put(model, slots(model.config, parts))


def read_statistics(path: Path, channels: int) -> LatentStatistics:
    """Latent statistics of ``mean_std.pt``: mean and deviation, channel-major, for ``channels`` channels."""
    mean, std = tensor_files.read_pair(path)
    for value in (mean, std):
        if value.numel() == 0 or value.numel() % channels or value.numel() != mean.numel():
            raise InputError(f"statistics of {value.numel()} values do not belong to {channels} latent channels")
    return checked_statistics(mean.reshape(channels, -1), std.reshape(channels, -1))


def without_prefix(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors by name without the prefixes of a training checkpoint; the averaged ones where it has them."""
    averaged = {name[len(_EMA) :].replace("-", "."): x for name, x in weights.items() if name.startswith(_EMA)}
    current = {name[len(_NETWORK) :]: x for name, x in weights.items() if name.startswith(_NETWORK)}
    # Buffers are not averaged, and the quantiser's say what the levels are.
    return (
        {name: x for name, x in current.items() if _BUFFER.match(name)} | averaged if averaged else current or weights
    )


def _is_dead(name: str) -> bool:
    return bool(_BUFFER.match(name) or _RESAMPLING.match(name))


def _native_name(here: str, media: Media) -> str:
    name = here
    for ours, theirs in (*(_VIDEO if media == "video" else _IMAGE), *_ALWAYS):
        name = name.replace(ours, theirs)
    if media == "image":
        return name
    module, _, tensor = name.rpartition(".")
    return f"{module}.{'norm' if module.rpartition('.')[2].startswith('norm') else 'conv3d'}.{tensor}"


def _native_shape(shape: tuple[int, ...], media: Media) -> tuple[int, ...]:
    if len(shape) == 1:
        return shape
    if len(shape) == 2:
        return (*shape, 1, 1) if media == "image" else (*shape, 1, 1, 1)
    if len(shape) == 3:
        return (*shape, 1, 1)
    return shape if media == "image" else (*shape[:2], 1, *shape[2:])
