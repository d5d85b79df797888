"""Arithmetic of losses: float32 at the least, whatever the network that is trained runs in."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_float32(term: Callable[P, R]) -> Callable[P, R]:
    """Have a function's positional tensors, and those in mappings, widened to float32, and autocast off while it runs.

    Wider ones stay as they are.
    """

    @wraps(term)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        found: list[Tensor] = []
        widened = [_widened(value, found) for value in args]
        with torch.autocast(found[0].device.type, enabled=False):
            return term(*widened, **kwargs)  # pyright: ignore[reportCallIssue]

    return run


def _widened(value: object, found: list[Tensor]) -> object:
    if isinstance(value, Tensor):
        found.append(value)
        return value.to(torch.promote_types(value.dtype, torch.float32))
    if isinstance(value, Mapping):
        return {key: _widened(entry, found) for key, entry in value.items()}
    return value
