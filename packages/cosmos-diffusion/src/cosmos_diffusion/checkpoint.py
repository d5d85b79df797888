"""Checkpoints: ``load`` reads every layout, told apart by content; ``save`` writes ours (safetensors and config)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cosmos_diffusion import diffusers_layout, weight_files
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.defaults import RELEASED, Defaults
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.families import check_given
from cosmos_diffusion.native_layout import NativeFile, is_native
from cosmos_diffusion.preconditioning import PRECONDITIONINGS
from cosmos_diffusion.presets import PRESETS
from cosmos_diffusion.sources import Source, find
from cosmos_diffusion.text_encoders.byte_encoder import ByteEncoderConfig
from cosmos_diffusion.uncertainty import Uncertainty
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError, LatentStatistics
from cosmos_tokenizer.devices import available_device
from cosmos_tokenizer.slots import Slot, checked_statistics, take

Layout = Literal["ours", "native", "diffusers"]

WEIGHTS = ("net.", "text_encoder.")
"""How the names of tensors begin whose dtype is the model's; others keep their own."""

_FORMAT = "cosmos-diffusion"
_VERSION = "1"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
_POSITION = "net.position."
_UNCERTAINTY = "uncertainty."
_DOMAINS = "domains."


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What a source holds: tensors under our names, checked, and still in the file until they are used.

    `model` is the world model on the meta device, without values. Where the file has no uncertainty, `state` has none.
    """

    layout: Layout
    model: WorldModel
    state: Mapping[str, Tensor]


def load(
    source: Source,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    config: str | DiTConfig | None = None,
) -> WorldModel:
    """World model of a checkpoint, in eval mode.

    The network is never built with values of its own, and on the CPU in the file's dtype its weights stay in the file
    until they are used: the file must then keep its bytes (another may take its name).

    Args:
        source: name of shipped weights (``nano-...``); a file in our layout or in NVIDIA's native one; diffusers'
            transformer (file or folder, in shards or not) or a pipeline's folder with one; or a hub id.
        device: where to put the weights.
        dtype: of the network's weights; by default that of the file. The uncertainty keeps its own.
        config: name in ``PRESETS``, or a config. It supplies what a native file's shapes and diffusers' config.json
            cannot say: rotary ratios, fps modulation, prediction, how long text is. By default the nearest released
            network does.

    Raises:
        InputError: no such source; a truncated, damaged or unknown file; a key that is missing, unexpected, misshapen
            or holds NaN; a config that contradicts the file; a device that this machine lacks.
        OSError: a file cannot be read.
    """
    target = available_device(device)
    checkpoint = read(source, config=config)
    state = _in_one_dtype(checkpoint.state, dtype)
    if not any(name.startswith(_UNCERTAINTY) for name in state):
        state |= _untrained()
    model = checkpoint.model
    model.load_state_dict(state, assign=True)
    return model.to(target).eval()


def save(model: WorldModel, path: str | Path, *, storage: torch.dtype | None = None) -> None:
    """Write a world model to one safetensors file in our layout, whole or not at all; dtypes are kept.

    Args:
        model: the model.
        path: file to write.
        storage: dtype of the network's weights in the file, to make it smaller; ``load`` gives back the model's own.

    Raises:
        OSError: the file cannot be written.
    """
    state: Mapping[str, Tensor] = model.state_dict()
    metadata: dict[str, str] = {}
    if storage is not None:
        metadata["dtype"] = str(model.net.dtype).removeprefix("torch.")
        state = {n: value.to(storage) if n.startswith(WEIGHTS) else value for n, value in state.items()}
    write(model, state, path, metadata=metadata)


def write(
    model: WorldModel, state: Mapping[str, Tensor], path: str | Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors under our names as ``save`` does. An untrained uncertainty is left out, as ``load`` makes it.

    Args:
        model: says what is of no tensor: configs and defaults.
        state: what is written for its tensors.
        path: file to write.
        metadata: further strings.

    Raises:
        OSError: the file cannot be written.
    """
    said = {"format": _FORMAT, "version": _VERSION, "config": json.dumps(asdict(model.config))}
    if model.text_encoder is not None:
        said["text_encoder"] = json.dumps(asdict(model.text_encoder.config))
    if model.defaults != RELEASED[model.config.prediction]:
        said["defaults"] = json.dumps(asdict(model.defaults))
    weight_files.write_safetensors(path, trained(state), said | dict(metadata or {}))


def trained(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without those of an uncertainty that ``load`` made because a file had none."""
    made = _untrained()
    if all(name in state and torch.equal(state[name].cpu(), value) for name, value in made.items()):
        return {name: value for name, value in state.items() if name not in made}
    return state


def read(source: Source, *, config: str | DiTConfig | None = None) -> Checkpoint:
    """Checked tensors of a checkpoint, and the network that they are of; arguments and errors are those of ``load``."""
    path, given = find(source), _named(config)
    try:
        return _read(path, given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path, given: DiTConfig | None) -> Checkpoint:
    weights, metadata = weight_files.read(path)
    if metadata.get("format") == _FORMAT:
        model = _without_values(_config_of_ours(weights, metadata, given), weights, metadata)
        model.domains = _domains(model.config, weights)
        state = _taken(model, weights, {name: name for name in model.state_dict()})
        return Checkpoint(layout="ours", model=model, state=_restored(state, metadata))
    if diffusers_layout.is_diffusers(weights):
        fields = diffusers_layout.read_config(path.with_name(diffusers_layout.CONFIG_FILE))
        model = _without_values(diffusers_layout.config_from_diffusers(fields, metadata, given), weights)
        places = {f"net.{name}": diffusers_layout.name_there(name) for name in model.net.state_dict()}
        return Checkpoint(layout="diffusers", model=model, state=_taken(model, weights, places))
    if is_native(weights):
        file = NativeFile(weights)
        model = _without_values(file.config(given), weights)
        places = file.places(model.state_dict())
        used = {name: value for name, value in weights.items() if not file.is_unused(name)}
        return Checkpoint(layout="native", model=model, state=_taken(model, used, places))
    raise InputError(f"no world model known here: its first key is {next(iter(weights))}")


def _named(config: str | DiTConfig | None) -> DiTConfig | None:
    if not isinstance(config, str):
        return config
    if config not in PRESETS:
        raise InputError(f"config is {config!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[config]


def _without_values(
    config: DiTConfig, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> WorldModel:
    if config.blocks > len(weights):  # before a damaged number is built
        raise InputError(f"its config says {config.blocks} blocks, and it holds {len(weights)} keys: it is truncated")
    said = {} if metadata is None else metadata
    encoder = ByteEncoderConfig.from_dict(_fields(said, "text_encoder")) if "text_encoder" in said else None
    defaults = Defaults.from_dict(_fields(said, "defaults")) if "defaults" in said else None
    with torch.device("meta"):
        return WorldModel(config, text_encoder=encoder, defaults=defaults)


def _domains(config: DiTConfig, weights: Mapping[str, Tensor]) -> Domains | None:
    """Statistics of latents, where a file of ours has them."""
    if not any(name.startswith(_DOMAINS) for name in weights):
        return None
    found: dict[str, LatentStatistics] = {}
    for kind in ("video", "picture"):
        names = [f"{_DOMAINS}{kind}.{name}" for name in ("mean", "std")]
        for name in names:
            if name not in weights:
                raise InputError(f"key {name} is missing: the file is truncated or of another network")
            if weights[name].dim() != 2 or weights[name].shape[0] != config.latent_channels:
                raise InputError(f"key {name} has shape {tuple(weights[name].shape)}, and latents are of channels")
        mean_CF, std_CF = (weights[name] for name in names)
        if mean_CF.shape != std_CF.shape:
            raise InputError(f"key {names[1]} has shape {tuple(std_CF.shape)}, expected {tuple(mean_CF.shape)}")
        found[kind] = checked_statistics(mean_CF, std_CF)
    return Domains(**found, sigma_data=PRECONDITIONINGS[config.prediction].sigma_data)


def _taken(model: WorldModel, weights: Mapping[str, Tensor], places: Mapping[str, str]) -> dict[str, Tensor]:
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if not any(places.get(name) in weights for name in shapes if name.startswith(_UNCERTAINTY)):
        places = {name: place for name, place in places.items() if not name.startswith(_UNCERTAINTY)}
    return take(weights, {name: Slot(place, shapes[name], shapes[name]) for name, place in places.items()})


def _config_of_ours(weights: Mapping[str, Tensor], metadata: Mapping[str, str], given: DiTConfig | None) -> DiTConfig:
    if metadata.get("version") != _VERSION:
        raise InputError(
            f"its layout has version {metadata.get('version')!r}, and this package reads {_VERSION!r}: update it"
        )
    config = DiTConfig.from_dict(_fields(metadata, "config"))
    if given is not None:
        check_given(given, asdict(config))
    return config


def _fields(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        fields = json.loads(metadata[name])
    except (KeyError, ValueError) as error:
        raise InputError(f"its metadata holds no {name}: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"its metadata holds no {name}, but {str(fields)[:80]}")
    return fields


def _restored(state: dict[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors in the dtype of the model that was saved with a storage dtype."""
    if "dtype" not in metadata:
        return state
    if metadata["dtype"] not in _DTYPES:
        raise InputError(f"its metadata says dtype {metadata['dtype']!r}: it is one of {', '.join(_DTYPES)}")
    dtype = _DTYPES[metadata["dtype"]]
    return {name: value.to(dtype) if name.startswith(WEIGHTS) else value for name, value in state.items()}


def _in_one_dtype(state: Mapping[str, Tensor], asked: torch.dtype | None) -> dict[str, Tensor]:
    """One dtype for all that is multiplied; tables of positions may be finer, as diffusers keeps them."""
    kept = () if asked is not None else (_POSITION,)
    changed = {n: value for n, value in state.items() if n.startswith(WEIGHTS) and not n.startswith(kept)}
    dtype = asked or reduce(torch.promote_types, (value.dtype for value in changed.values()))
    return dict(state) | {name: value.to(dtype) for name, value in changed.items()}


def _untrained() -> dict[str, Tensor]:
    """Of an uncertainty where a checkpoint has none: the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = Uncertainty().state_dict()
    return {f"{_UNCERTAINTY}{name}": value for name, value in state.items()}
