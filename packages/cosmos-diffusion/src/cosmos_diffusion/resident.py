"""Where the weights of a helper model are while it has nothing to do: ready, on the CPU, or in their files alone."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar, get_args

import torch
from torch import nn

from cosmos_tokenizer import InputError

Rest = Literal["device", "cpu", "disk"]
"""Between calls: on the device; on the CPU, and brought from there; or nowhere, and read anew from their files."""

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Resident(Generic[M]):
    """A model that is read when it is first asked for, and waits for the next time where ``rest`` says.

    Args:
        load: reads it, on the CPU.
        device: where it runs.
        rest: where it is otherwise, a word of ``Rest``.

    Raises:
        InputError: ``rest`` is none of those.
    """

    def __init__(self, load: Callable[[], M], device: torch.device, rest: str) -> None:
        if rest not in get_args(Rest):
            raise InputError(f"rest is {rest!r}: use {', '.join(get_args(Rest))}")
        self._load, self._device, self._rest = load, device, rest
        self._model: M | None = None

    def run(self, work: Callable[[M], T]) -> T:
        """What ``work`` makes of the model on the device; it must not keep the model."""
        model = self._model or self._load()
        self._model = None
        try:
            return work(model.to(self._device))
        finally:
            if self._rest == "cpu":
                model.to("cpu")
            if self._rest != "disk":
                self._model = model
            del model
            if self._rest != "device" and self._device.type == "cuda":
                torch.cuda.empty_cache()  # for other processes; torch itself would reuse the memory

    def free(self) -> None:
        """Forget the weights until they are asked for again."""
        self._model = None
