"""Big weights in files: left on disk until they are used, in one file or in shards, and written without a second copy.

Shards are those of diffusers and transformers: an index (JSON) says which safetensors file holds which tensor.
"""

import json
import os
from collections.abc import Mapping
from errno import EIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save as serialise
from safetensors.torch import save_file
from torch import Tensor

from cosmos_tokenizer import InputError, tensor_files
from cosmos_tokenizer.atomic import whole_file
from cosmos_tokenizer.jsontext import readable

INDEX = ".index.json"
"""How the name of an index ends."""


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, mapped from the file or from the shards of an index, and the metadata strings.

    Raises:
        InputError: a file is missing, truncated or of another format, or the index does not fit the shards.
        OSError: a file cannot be read.
    """
    if not path.name.endswith(INDEX):
        return tensor_files.read(path, mapped=True)
    places = _index(path)
    weights: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for name in sorted(set(places.values())):
        shard = path.with_name(name)
        if not shard.is_file():
            raise InputError(f"shard {name} is missing: the index says that it holds {_first(places, name)}")
        try:
            tensors, said = tensor_files.read(shard, mapped=True)
        except InputError as error:
            raise InputError(f"shard {name}: {error}") from error
        for key, place in places.items():
            if place == name and key not in tensors:
                raise InputError(f"key {key} is missing in shard {name}: the files are of two checkpoints")
        for key in tensors:
            if places.get(key) != name:
                raise InputError(f"key {key} of shard {name} is not in the index: the files are of two checkpoints")
        weights |= tensors
        metadata |= said
    return weights, metadata


def write_safetensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    own = {name: _own(value) for name, value in tensors.items()}
    with whole_file(path) as beside:
        if readable(str(beside)) != str(beside):  # the library takes UTF-8 alone
            beside.write_bytes(serialise(own, metadata))
            return
        beside.touch()
        mode = beside.stat().st_mode
        try:
            save_file(own, beside, metadata)
        except SafetensorError as error:
            raise OSError(EIO, str(error), str(beside)) from error
        os.chmod(beside, mode)  # else nobody but the owner may read it


def write_pickle(path: Path | str, tensors: Mapping[str, Tensor]) -> None:
    """Write a torch pickle of tensors by name, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    own = {name: _own(value) for name, value in tensors.items()}
    with whole_file(path) as beside:
        try:
            with beside.open("wb") as file:
                torch.save(own, file)
        except RuntimeError as error:  # torch's writer hides what the file said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _own(value: Tensor) -> Tensor:
    """On the CPU, contiguous, and alone in its storage: a pickle holds whole storages."""
    value = value.detach().cpu().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _index(path: Path) -> dict[str, str]:
    try:
        places = json.loads(path.read_text("utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"it is no index of shards: {type(error).__name__} {error}") from error
    if not isinstance(places, dict) or not places:
        raise InputError("it is no index of shards: weight_map maps no names")
    for key, name in places.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"weight_map says that {key} lies in {name!r}: a file of the same folder was expected")
    return places


def _first(places: Mapping[str, str], name: str) -> str:
    return next(key for key, place in places.items() if place == name)
