"""Low-rank adapters (LoRA, arXiv 2106.09685) on the blocks of a network: add, train, merge, and keep in a small file.

    config = lora.PRESETS["predict1"]
    lora.add(world, config)             # from here on only ``lora.parameters(world)`` want gradients
    lora.save(world, "adapter.safetensors")
    lora.load(other, "adapter.safetensors")
    lora.merge(other)                   # as fast as without; ``lora.unmerge`` gives back the very weights

Files have peft's names for diffusers' ``CosmosTransformer3DModel``, and what its ``load_lora_adapter`` wants to know.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_diffusion import diffusers_layout
from cosmos_diffusion.adapted_linear import AdaptedLinear
from cosmos_diffusion.network import DiT
from cosmos_diffusion.quantised import QuantisedLinear
from cosmos_diffusion.weight_files import write_safetensors
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError, tensor_files
from cosmos_tokenizer.slots import Slot, take

_Q_AND_V = ("self_attention.q", "self_attention.v", "cross_attention.q", "cross_attention.v")
_ATTENTIONS_AND_PERCEPTRON = (
    *(f"self_attention.{layer}" for layer in ("q", "k", "v", "out")),
    *(f"cross_attention.{layer}" for layer in ("q", "k", "v", "out")),
    "up",
    "down",
)
TARGETS: tuple[str, ...] = (
    *_ATTENTIONS_AND_PERCEPTRON,
    *(f"modulations.{index}.{layer}" for index in range(3) for layer in ("down", "up")),
)
"""Layers of a block that can have an adapter, by their names in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoRAConfig:
    """Adapters of one rank on some layers of every block.

    A layer's weight ``W`` acts as ``W + alpha / rank * B A``. `targets`: names out of `TARGETS`.

    Raises:
        InputError: a value is out of range, or a target is unknown or there twice.
    """

    rank: int
    alpha: int | float
    targets: tuple[str, ...] = _Q_AND_V

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:
            raise InputError(f"lora.rank is {self.rank!r}: it must be a whole number from 1 up")
        if not 0 < self.alpha < math.inf:
            raise InputError(f"lora.alpha is {self.alpha!r}: it must be a positive number")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise InputError(f"lora.targets is {self.targets}: give one or more, each once")
        for target in self.targets:
            if target not in TARGETS:
                raise InputError(f"lora.targets has {target!r}: use {', '.join(TARGETS)}")


PRESETS: Mapping[str, LoRAConfig] = MappingProxyType(
    {
        "predict1": LoRAConfig(rank=8, alpha=8),
        "predict2-2b": LoRAConfig(rank=16, alpha=16, targets=_ATTENTIONS_AND_PERCEPTRON),
        "predict2-14b": LoRAConfig(rank=32, alpha=32, targets=_ATTENTIONS_AND_PERCEPTRON),
    }
)
"""As the released networks are adapted: q and v of both attentions, or all of both attentions and of the perceptron."""


def add(model: WorldModel | DiT, config: LoRAConfig) -> None:
    """Give every block its adapters. They begin at zero, so outputs keep their bits; all else is frozen.

    Add them before weights are shared out to processes.

    Raises:
        InputError: the network has some already.
    """
    _check_none(model)
    model.requires_grad_(False)
    for block in _net(model).blocks:
        for target in config.targets:
            base = block.get_submodule(target)
            assert isinstance(base, nn.Linear | QuantisedLinear)
            block.set_submodule(target, AdaptedLinear(base, config.rank, config.alpha))


def layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted layers of a model by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, AdaptedLinear)}


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What an optimiser trains: the adapters' parameters by name."""
    return {
        f"{name}.{half}": parameter
        for name, layer in layers(model).items()
        for half, parameter in (("down", layer.down), ("up", layer.up))
    }


def merge(model: nn.Module) -> None:
    """Put the adapters into the weights, for inference as fast as without; merged networks stay as they are.

    Each weight is summed in float32 at least and rounded once to its dtype, so that outputs differ from the unmerged
    ones by that rounding. The original weights are kept where they are, as the same tensors: while a network is merged
    its adapted weights take memory twice, until :func:`remove` lets the originals go. A merged network that moves to
    another device leaves them behind. What was prepared from the network before (text, levels) is to be prepared anew.

    Raises:
        InputError: there are no adapters; or, with no layer changed, some weights are in eight bits or shared out to
            processes.
    """
    found = _some(model)
    _check_mergeable(found)
    for layer in found.values():
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo :func:`merge`: weights are those of before, bit for bit, and adapters act beside them again.

    Raises:
        InputError: as of :func:`merge`.
    """
    found = _some(model)
    _check_mergeable(found)
    for layer in found.values():
        layer.unmerge()


def remove(model: nn.Module) -> None:
    """Take the adapters off. What is merged stays merged, for good; all parameters stay frozen."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, AdaptedLinear):
                setattr(parent, name, part.base)


def save(model: WorldModel | DiT, path: str | Path) -> None:
    """Write the adapters, merged or not, to one safetensors file, whole or not at all; dtypes are kept.

    ``cosmos_diffusion.save`` writes the rest of the model, as it is: with the adapters in it where they are merged.

    Raises:
        InputError: there are no adapters.
        OSError: the file cannot be written.
    """
    net = _net(model)
    found = _some(net)
    targets = [target for target in TARGETS if f"blocks.0.{target}" in found]
    first = found[f"blocks.0.{targets[0]}"]
    said = {
        _PREFIX + "r": first.rank,
        _PREFIX + "lora_alpha": first.alpha,
        _PREFIX + "target_modules": [_there(0, target).split(".", 2)[2] for target in targets],
    }
    tensors: dict[str, Tensor] = {}
    for index in range(len(net.blocks)):
        for target in targets:
            name, layer = _PREFIX + _there(index, target), found[f"blocks.{index}.{target}"]
            tensors |= {f"{name}.lora_A.weight": layer.down, f"{name}.lora_B.weight": layer.up}
    write_safetensors(path, tensors, {"format": "pt", _METADATA: json.dumps(said)})


def load(model: WorldModel | DiT, path: str | Path) -> LoRAConfig:
    """Give a network the adapters of a file, in float32, as :func:`add` does, and return what they are.

    Files of peft and diffusers are read too, where every block has the same adapters of one rank.

    Raises:
        InputError: the file is none of adapters, truncated or damaged; a key is missing (in one block of many, say),
            unexpected or misshapen, because the network has other layers or widths or the rank is not the one stated;
            the network has adapters already. The network is then as it was.
        OSError: the file cannot be read.
    """
    net = _net(model)
    _check_none(net)
    try:
        weights, metadata = tensor_files.read(Path(path))
        config, state = _checked(net, weights, _said(metadata))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    add(model, config)
    for name, layer in layers(net).items():
        for half, parameter in (("down", layer.down), ("up", layer.up)):
            parameter.data = state[f"{name}.{half}"].to(parameter.device, torch.float32, copy=True)
    return config


_PREFIX = "transformer."
_METADATA = "lora_adapter_metadata"
_KEY = re.compile(r"(.+)\.lora_([AB])\.weight")


def _net(model: WorldModel | DiT) -> DiT:
    return model.net if isinstance(model, WorldModel) else model


def _check_none(model: nn.Module) -> None:
    if layers(model):
        raise InputError("the network has adapters: lora.remove them first, and lora.merge them before that to keep")


def _some(model: nn.Module) -> dict[str, AdaptedLinear]:
    found = layers(model)
    if not found:
        raise InputError("the network has no adapters: lora.add or lora.load gives it some")
    return found


def _check_mergeable(found: Mapping[str, AdaptedLinear]) -> None:
    for name, layer in found.items():
        try:
            layer.check_mergeable()
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _there(index: int, target: str) -> str:
    """diffusers' name of a layer in a block."""
    return diffusers_layout.name_there(f"blocks.{index}.{target}.weight").removesuffix(".weight")


def _said(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Fields of peft's config in a file, which may have none."""
    try:
        fields = json.loads(metadata.get(_METADATA, "{}"))
        said = {str(name).removeprefix(_PREFIX): value for name, value in fields.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"its {_METADATA} is no JSON object: {error}") from error
    for name in ("use_rslora", "rank_pattern", "alpha_pattern"):
        if said.get(name):
            raise InputError(f"its {_METADATA} has {name} {said[name]}: one rank and one scale for all is read")
    for name, kinds in (("r", (int,)), ("lora_alpha", (int, float))):
        if name in said and not (type(said[name]) in kinds and said[name] > 0):
            raise InputError(f"its {_METADATA} has {name} {said[name]!r}: a positive number was expected")
    return said


def _checked(net: DiT, weights: Mapping[str, Tensor], said: Mapping[str, Any]) -> tuple[LoRAConfig, dict[str, Tensor]]:
    """What a file's adapters are, and their tensors as ``NAME.down`` and ``NAME.up``."""
    weights = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
    known = {_there(index, target): target for index in range(len(net.blocks)) for target in TARGETS}
    found: set[str] = set()
    rank = said.get("r")
    for key, value in weights.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise InputError(f"key {key} is unexpected: the file is not one of adapters alone")
        if match[1] not in known:
            raise InputError(f"key {key} is unexpected: the network of {len(net.blocks)} blocks has no such layer")
        found.add(known[match[1]])
        if rank is None and match[2] == "A":
            rank = value.shape[0]
    if rank is None:
        raise InputError("it has no key that ends with .lora_A.weight: it is truncated")
    targets = tuple(target for target in TARGETS if target in found)
    config = LoRAConfig(rank=rank, alpha=said.get("lora_alpha", rank), targets=targets)
    slots: dict[str, Slot] = {}
    for index, block in enumerate(net.blocks):
        for target in targets:
            base = block.get_submodule(target)
            assert isinstance(base, nn.Linear | QuantisedLinear)
            halves = {"down": ("A", (rank, base.in_features)), "up": ("B", (base.out_features, rank))}
            for half, (letter, shape) in halves.items():
                there = f"{_there(index, target)}.lora_{letter}.weight"
                slots[f"blocks.{index}.{target}.{half}"] = Slot(there, shape, shape)
    return config, take(weights, slots)
