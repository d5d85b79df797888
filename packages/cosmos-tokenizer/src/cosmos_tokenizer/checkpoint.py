"""Checkpoints: ``load`` reads every layout, told apart by content; ``save`` writes ours (safetensors and config)."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import reduce
from pathlib import Path

import torch
from safetensors.torch import save as serialise
from torch import Tensor

from cosmos_tokenizer import diffusers_layout, native, tensor_files
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.devices import available_device
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer, Parts
from cosmos_tokenizer.native_config import check_preset
from cosmos_tokenizer.presets import PRESETS
from cosmos_tokenizer.slots import Slot, checked_statistics, shapes_here, take
from cosmos_tokenizer.sources import Source, find
from cosmos_tokenizer.statistics import LatentStatistics

_FORMAT = "cosmos-tokenizer"
_VERSION = "1"
_STATISTICS = ("statistics.mean", "statistics.std")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}

_Checkpoint = tuple[TokenizerConfig, Parts, dict[str, Tensor], LatentStatistics | None]


def load(
    source: Source,
    *,
    preset: str | TokenizerConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> CausalTokenizer:
    """Tokenizer of a checkpoint, in eval mode.

    Args:
        source: name of shipped weights (``nano-...``); a file in our layout, in NVIDIA's (state dict, TorchScript,
            training checkpoint) or in diffusers'; a folder of such files; an (encoder, decoder) pair of files; or a
            hub id. One half alone gives a model that only encodes or only decodes. Latent statistics come from the
            checkpoint, for NVIDIA's files from ``mean_std.pt`` beside them.
        preset: name in ``PRESETS``, or a config. It supplies only what NVIDIA's files cannot say: the groups of
            GroupNorm, how much a net compresses when its file holds unused convolutions, and what one half does not
            say about the other. Widths always come from the file.
        device: where to put the weights.
        dtype: of the weights; by default that of the file.

    Raises:
        InputError: no such source; a truncated, damaged or unknown file; a key that is missing, unexpected, misshapen
            or holds NaN; a preset that contradicts the file; a device that this machine lacks.
        OSError: a file cannot be read.
    """
    target = available_device(device)
    found = find(source)
    label = " and ".join(str(path) for path in found.files)
    given = found.preset if preset is None else _named(preset)
    try:
        config, parts, state, statistics = _read(found.files, given)
    except InputError as error:
        raise InputError(f"{label}: {error}") from error
    with torch.device("meta"):
        model = CausalTokenizer(config, parts=parts)
    model.load_state_dict(state, assign=True)
    model.statistics = statistics
    common = reduce(torch.promote_types, (value.dtype for value in state.values()))
    return model.to(target, dtype or common).eval()


def save(model: CausalTokenizer, path: str | Path, *, storage: torch.dtype | None = None) -> None:
    """Write a model to one safetensors file in our layout, whole or not at all; dtype and statistics are kept.

    Args:
        model: the model.
        path: file to write.
        storage: dtype of the weights in the file, to make it smaller; ``load`` gives back the model's own.

    Raises:
        InputError: the model is folded.
        OSError: the file cannot be written.
    """
    if model.folded:
        raise InputError("a folded model has no weights of its own to save: save the one that it was folded from")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    metadata = {"format": _FORMAT, "version": _VERSION, "config": json.dumps(asdict(model.config))}
    if storage is not None:
        state = {name: value if name in _STATISTICS else value.to(storage) for name, value in state.items()}
        metadata["dtype"] = str(model.dtype).removeprefix("torch.")
    write_whole(path, serialise(state, metadata))


def parts_of(model: CausalTokenizer) -> Parts:
    """Which halves a model has."""
    if model.encoder is None:
        return "decoder"
    return "both" if model.decoder is not None else "encoder"


def _named(preset: str | TokenizerConfig) -> TokenizerConfig:
    if isinstance(preset, TokenizerConfig):
        return preset
    if preset not in PRESETS:
        raise InputError(f"preset is {preset!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def _read(files: tuple[Path, ...], preset: TokenizerConfig | None) -> _Checkpoint:
    weights: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for path in files:
        try:
            tensors, said = tensor_files.read(path)
        except InputError as error:
            raise InputError(f"{path.name}: {error}" if len(files) > 1 else str(error)) from error
        if weights:
            _check_pair(weights, metadata, tensors, said)
        weights |= tensors
        metadata = said
    if metadata.get("format") == _FORMAT:
        return _ours(weights, metadata, preset)
    if diffusers_layout.is_diffusers(weights):
        path = files[0].with_name(diffusers_layout.CONFIG_FILE)
        if not path.is_file():
            raise InputError(f"a diffusers autoencoder needs {path.name} beside it")
        config, state, statistics = diffusers_layout.from_diffusers(weights, diffusers_layout.read_config(path), preset)
        return config, "both", state, statistics
    if native.is_native(weights):
        config, parts, state = native.from_native(weights, preset)
        path = files[0].with_name(native.STATISTICS_FILE)
        if config.kind == "discrete" or not path.is_file():
            return config, parts, state, None
        try:
            return config, parts, state, native.read_statistics(path, config.latent_channels)
        except InputError as error:
            raise InputError(f"{path.name} beside it: {error}") from error
    raise InputError(f"no tokenizer known here: its first key is {next(iter(weights))}")


def _check_pair(
    first: Mapping[str, Tensor], first_said: Mapping[str, str], second: Mapping[str, Tensor], said: Mapping[str, str]
) -> None:
    """Raise where two files are not the two halves of one network."""
    for half in ("encoder", "decoder"):
        if all(any(name.startswith(f"{half}.") for name in native.without_prefix(held)) for held in (first, second)):
            raise InputError(f"both files hold the {half}: give one with the encoder and one with the decoder")
    formats = [metadata.get("format") == _FORMAT for metadata in (first_said, said)]
    if formats[0] != formats[1]:
        raise InputError("one file is in the layout of this package and the other is not: convert both to one layout")
    if formats[0] and first_said.get("config") != said.get("config"):
        raise InputError(
            f"the files are halves of two networks: their configs are {first_said.get('config')} and "
            f"{said.get('config')}"
        )


def _ours(weights: Mapping[str, Tensor], metadata: Mapping[str, str], preset: TokenizerConfig | None) -> _Checkpoint:
    if metadata.get("version") != _VERSION:
        raise InputError(
            f"its layout has version {metadata.get('version')!r}, and this package reads {_VERSION!r}: update it"
        )
    try:
        fields = json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise InputError(f"its metadata holds no config: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"its metadata holds no config, but {fields!r}")
    config = TokenizerConfig.from_dict(fields)
    if preset is not None:
        check_preset(config, preset)
    halves = {name.split(".")[0] for name in weights}
    parts: Parts = "both" if {"encoder", "decoder"} <= halves else "decoder" if "decoder" in halves else "encoder"
    slots = {name: Slot(name, shape, shape) for name, shape in shapes_here(config, parts).items()}
    statistics = None
    if _STATISTICS[0] in weights or _STATISTICS[1] in weights:
        for name in _STATISTICS:
            if name not in weights:
                raise InputError(f"key {name} is missing")
            if weights[name].dim() != 2 or weights[name].shape != weights[_STATISTICS[0]].shape:
                raise InputError(f"key {name} has shape {tuple(weights[name].shape)}")
        statistics = checked_statistics(weights[_STATISTICS[0]], weights[_STATISTICS[1]])
    state = take(weights, slots, ignored=lambda name: name in _STATISTICS)
    if "dtype" in metadata:
        if metadata["dtype"] not in _DTYPES:
            raise InputError(f"its metadata says dtype {metadata['dtype']!r}: it is one of {', '.join(_DTYPES)}")
        state = {name: value.to(_DTYPES[metadata["dtype"]]) for name, value in state.items()}
    return config, parts, state, statistics
