"""Linear weights over an image embedding, in the layouts of the LAION aesthetic predictors."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cosmos_curate.errors import InputError


@dataclass(frozen=True, eq=False)
class Linear:
    """A score: weight times embedding, plus bias."""

    weight: Float32[np.ndarray, "D"]
    bias: np.float32


def load_linear(path: Path) -> Linear:
    """Read weights: `weight` and `bias`, or layers such as `layers.0.weight`, applied in the order of their numbers.

    Layers with nothing but dropout between them are one linear map, and are folded into it.

    Raises:
        InputError: it is no such file, or its layers do not fit together down to one score.
    """
    arrays = read_arrays(path)
    names = [name.removesuffix("weight") for name in arrays if name.endswith("weight")]
    names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    if not names or {f"{name}{part}" for name in names for part in ("weight", "bias")} != set(arrays):
        raise InputError(f"{path} must hold weight and bias of linear layers, and holds {sorted(arrays) or 'nothing'}")
    weight, bias = np.eye(1), np.zeros(1)
    try:
        for name in reversed(names):
            layer, offset = (arrays[f"{name}{part}"].astype(np.float64) for part in ("weight", "bias"))
            bias = bias + weight @ offset.reshape(layer.shape[0])
            weight = weight @ layer
    except (ValueError, IndexError):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise InputError(f"{path}: its layers do not lead to one score: {shapes}") from None
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError(f"{path} holds numbers that are not finite")
    return Linear(weight[0].astype(np.float32), np.float32(bias[0]))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz, or of a state dict that torch saved.

    Raises:
        InputError: it is neither.
    """
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        import pickle

        import torch

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return {name: tensor.numpy() for name, tensor in state.items()}
        except (pickle.UnpicklingError, RuntimeError, AttributeError) as error:
            raise ValueError(str(error).splitlines()[0]) from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no file of linear weights ({error}): give .npz, or a .pth state dict") from None
