"""How many bytes a computation holds at once, watched operator by operator; with fake tensors, without any of them."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes that a call has allocated at one time, its result included.

    What was there before does not count, nor what kernels allocate inside themselves. Run under ``FakeTensorMode``, it
    takes no memory and no arithmetic.
    """
    with _Watch() as watch:
        result = call()
    del result
    return watch.peak


class _Watch(TorchDispatchMode):
    """Counts storages from the operator that makes them until the last tensor on them is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        for value in tree_iter((args, kwargs)):
            self._note(value, ours=False)
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            self._note(value, ours=True)
        self.peak = max(self.peak, self._live)
        return result

    def _note(self, value: object, *, ours: bool) -> None:
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if ours else 0
        self._known.add(key)
        self._live += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size
