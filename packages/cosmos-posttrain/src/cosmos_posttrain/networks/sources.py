"""Frozen networks from files with torchvision's key names, pickled or as safetensors, or from the hub."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cosmos_posttrain.networks.efficientnet import EfficientNetLite0
from cosmos_posttrain.networks.mobilenet import MobileNetV2
from cosmos_posttrain.networks.raft import RAFT
from cosmos_posttrain.networks.vgg import VGG
from cosmos_tokenizer import InputError, hub, tensor_files

FeatureName = Literal["vgg16", "vgg19", "mobilenet_v2", "efficientnet_lite0"]
Features = VGG | MobileNetV2 | EfficientNetLite0

FEATURE_NETWORKS: Mapping[str, Callable[[], Features]] = {
    "vgg16": lambda: VGG("vgg16"),
    "vgg19": lambda: VGG("vgg19"),
    "mobilenet_v2": MobileNetV2,
    "efficientnet_lite0": EfficientNetLite0,
}
"""Name to an untrained network of that kind."""

SUFFIXES = (".safetensors", ".pth", ".pt")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_COUNTER = "num_batches_tracked"


def feature_network(name: FeatureName | str, source: Path | str, *, device: torch.device | str = "cpu") -> Features:
    """Network whose activations perceptual terms compare: float32, in eval mode, its weights without gradients.

    Args:
        name: one of ``FEATURE_NETWORKS``.
        source: a file (``.pth``, ``.pt``, ``.safetensors``, told apart by content), a folder that holds
            ``<name>`` with one of these endings, or a hub id ``org/name`` whose ``model.safetensors`` or
            ``pytorch_model.bin`` has these key names.
        device: where to put it.

    Raises:
        InputError: the name is unknown, or the source is missing, damaged or of another network.
    """
    if name not in FEATURE_NETWORKS:
        raise InputError(f"there is no feature network {name!r}: use one of {', '.join(FEATURE_NETWORKS)}")
    with torch.device("meta"):
        network = FEATURE_NETWORKS[name]()
    _fill(network, network.unused, _file(name, source))
    # Channels last in memory: on a CPU these are a fifth faster, forward and back; RAFT is slower.
    network = network.eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (a module's form is untyped)


def flow_network(source: Path | str, *, device: torch.device | str = "cpu") -> RAFT:
    """RAFT-large: float32, in eval mode, its weights without gradients; a folder's file is ``raft_large.safetensors``,
    ``.pth`` or ``.pt``.

    Raises:
        InputError: the source is missing, damaged or of another network.
    """
    with torch.device("meta"):
        network = RAFT()
    _fill(network, (), _file("raft_large", source))
    return network.eval().requires_grad_(False).to(device)


def network_file(folder: Path, name: str) -> Path:
    """A network's file in a folder: the first of ``<name>.safetensors``, ``.pth`` and ``.pt`` that is there, if any.

    Where there is none, what it would be called.
    """
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def _file(name: str, source: Path | str) -> Path:
    path = Path(source)
    if path.is_dir():
        path = network_file(path, name)
    if path.is_file():
        return path
    if path.parts and len(path.parts) == 2 and not path.suffix and not path.is_absolute():
        folder = hub.download(str(source), [[file] for file in HUB_FILES])
        return next(folder / file for file in HUB_FILES if (folder / file).is_file())
    raise InputError(f"there is no file {path} with the weights of {name}: give a file, a folder of such, or a hub id")


def _fill(network: nn.Module, unused: tuple[str, ...], path: Path) -> None:
    """Give a network that was built without values those of the file."""
    try:
        tensors, _ = tensor_files.read(path)
        state = _checked(tensors, network.state_dict(), unused)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    network.load_state_dict(state, assign=True)


def _checked(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], unused: tuple[str, ...]) -> dict[str, Tensor]:
    """The wanted tensors in float32; counters of batch norms, which old files lack, say nothing to a frozen network."""
    state: dict[str, Tensor] = {}
    for name, slot in wanted.items():
        if name.endswith(_COUNTER):
            state[name] = torch.zeros((), dtype=slot.dtype)
            continue
        if name not in tensors:
            raise InputError(f"key {name} is missing: the file is truncated or of another network")
        value = tensors[name]
        if value.shape != slot.shape:
            raise InputError(
                f"key {name} has shape {tuple(value.shape)}, expected {tuple(slot.shape)}: it is of another network"
            )
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise InputError(f"key {name} holds values that are not finite floats: the file is damaged")
        state[name] = value.float()
    for name in tensors:
        if name not in wanted and not name.endswith(_COUNTER) and not name.startswith(unused):
            raise InputError(f"key {name} is unexpected: the file is of another network")
    return state
