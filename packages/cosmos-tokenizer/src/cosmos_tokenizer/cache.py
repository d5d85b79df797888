"""What a causal network remembers of earlier frames, so that a clip can come in pieces of any length."""

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

    @property
    def started(self) -> bool:
        """Whether frames have gone by."""
        return bool(self.tensors) or any(part.started for part in self._parts.values())

    @property
    def nbytes(self) -> int:
        """Bytes that the cache holds."""
        own = sum(value.numel() * value.element_size() for value in self.tensors.values())
        return own + sum(part.nbytes for part in self._parts.values())

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
