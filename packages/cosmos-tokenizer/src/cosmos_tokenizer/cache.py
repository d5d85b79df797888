"""What a causal network remembers of earlier frames, so that a clip can come in pieces of any length."""

import torch
from torch import Tensor, nn


class FrameCache:
    """Frames, and keys and values of attention, that later frames of one clip need; empty at the clip's start.

    One cache serves one half of a tokenizer and one clip (or one batch of clips of the same size).

    Args:
        window: latent frames that temporal attention looks back on, the present one included; None for all of them.
        tensors: what an earlier piece left, by name of the layer.
    """

    def __init__(self, *, window: int | None = None, tensors: dict[str, Tensor] | None = None) -> None:
        self.window = window
        self.tensors = {} if tensors is None else tensors
        self._parts: dict[int, FrameCache] = {}
        self._rooms: dict[str, Tensor] = {}

    @property
    def started(self) -> bool:
        """Whether frames have gone by."""
        return bool(self.tensors) or any(part.started for part in self._parts.values())

    @property
    def nbytes(self) -> int:
        """Bytes that the cache holds, with the room for what is to come."""
        own = sum(value.nbytes for value in (self.tensors | self._rooms).values())
        return own + sum(part.nbytes for part in self._parts.values())

    def append(self, key: str, value: Tensor, axis: int) -> Tensor:
        """Put ``value`` behind what ``key`` holds, and return all of it.

        Where nothing is recorded it goes into room that was made beforehand, a half more than was needed: what came
        before is copied when the room is full, not every time.
        """
        past, room = self.tensors.get(key), self._rooms.pop(key, None)
        if past is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            whole = value if past is None else torch.cat([past, value], dim=axis)
        else:
            so_far, total = past.shape[axis], past.shape[axis] + value.shape[axis]
            locked = room is not None and room.is_inference() and not torch.is_inference_mode_enabled()
            if room is None or locked or room.shape[axis] < total:
                room = past.new_empty(*past.shape[:axis], total + total // 2, *past.shape[axis + 1 :])
                room.narrow(axis, 0, so_far).copy_(past)
            room.narrow(axis, so_far, total - so_far).copy_(value)
            whole, self._rooms[key] = room.narrow(axis, 0, total), room
        self.tensors[key] = whole
        return whole

    def part(self, index: int) -> "FrameCache":
        """The cache of one tile of the frames."""
        return self._parts.setdefault(index, FrameCache(window=self.window))


class Remembers(nn.Module):
    """A layer that keeps something of earlier frames, under ``key`` in a :class:`FrameCache`."""

    key: str = ""

    def recall(self, cache: FrameCache | None) -> Tensor | None:
        """What an earlier piece left, or None at the start of a clip."""
        return None if cache is None else cache.tensors.get(self.key)

    def remember(self, cache: FrameCache | None, value: Tensor) -> None:
        """Keep a copy for the next piece: a view would hold on to all of the piece that it is cut from."""
        if cache is not None:
            cache.tensors[self.key] = value.clone()


def name_memories(network: nn.Module) -> None:
    """Give every layer of ``network`` that remembers its own name as its key."""
    for name, layer in network.named_modules():
        if isinstance(layer, Remembers):
            layer.key = name
