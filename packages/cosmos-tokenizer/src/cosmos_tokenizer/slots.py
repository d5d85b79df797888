"""Where each parameter lies in a foreign checkpoint, and the check that every one is there, whole and finite."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer, Parts
from cosmos_tokenizer.statistics import LatentStatistics

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True)
class Slot:
    """Name and shape of one parameter in a file, beside its shape here (the same values in the same order)."""

    name: str
    shape: tuple[int, ...]
    shape_here: tuple[int, ...]


def shapes_here(config: TokenizerConfig, parts: Parts) -> dict[str, tuple[int, ...]]:
    """Our parameter names and shapes, in the order of the network."""
    with torch.device("meta"):
        model = CausalTokenizer(config, parts=parts)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def take(
    weights: Mapping[str, Tensor], slots: Mapping[str, Slot], *, ignored: Callable[[str], bool] = lambda name: False
) -> dict[str, Tensor]:
    """State dict under our names, after the check.

    Args:
        weights: tensors of the file.
        slots: our parameter name to its place in the file.
        ignored: true of names in the file that may stand there unused.

    Raises:
        InputError: naming the first key that is missing, unexpected, misshapen, no float, or not finite.
    """
    for slot in slots.values():
        if slot.name not in weights:
            raise InputError(f"key {slot.name} is missing: the file is truncated or of another network")
    known = {slot.name for slot in slots.values()}
    for name in weights:
        if name not in known and not ignored(name):
            raise InputError(f"key {name} is unexpected: the file is of another network")
    for slot in slots.values():
        if tuple(weights[slot.name].shape) != slot.shape:
            raise InputError(f"key {slot.name} has shape {tuple(weights[slot.name].shape)}, expected {slot.shape}")
    for slot in slots.values():
        value = weights[slot.name]
        if value.dtype not in _FLOATS:
            raise InputError(f"key {slot.name} holds {value.dtype}, expected floats of 16 bits or more")
        if not torch.isfinite(value).all():
            raise InputError(f"key {slot.name} holds NaN or infinite values")
    return {here: weights[slot.name].reshape(slot.shape_here) for here, slot in slots.items()}


def put(model: CausalTokenizer, slots: Mapping[str, Slot]) -> dict[str, Tensor]:
    """Inverse of :func:`take`: the model's weights under the names and in the shapes of the file."""
    state = model.state_dict()
    return {slot.name: state[here].detach().cpu().contiguous().view(slot.shape) for here, slot in slots.items()}


def checked_statistics(mean_CF: Float[Tensor, "C F"], std_CF: Float[Tensor, "C F"]) -> LatentStatistics:
    """Latent statistics of a file.

    Raises:
        InputError: they are not finite, or a deviation is not positive.
    """
    if not (torch.isfinite(mean_CF).all() and torch.isfinite(std_CF).all() and (std_CF > 0).all()):
        raise InputError("latent statistics hold NaN, infinite or non-positive values")
    return LatentStatistics(mean_CF, std_CF)
