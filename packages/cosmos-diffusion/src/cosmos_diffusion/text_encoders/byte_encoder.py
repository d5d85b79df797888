"""A small text encoder over UTF-8 bytes, trained together with a small world model and saved in its file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from cosmos_diffusion.nn import Linear, RMSNorm, Rotation, attention, frequencies, rotate, rotation
from cosmos_tokenizer import InputError

PADDING = 256
"""Stands behind the last byte."""
_LARGEST = 1 << 14


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteEncoderConfig:
    """Shape of a :class:`ByteEncoder`.

    Args:
        width: channels of a vector: the network's ``text_width``.
        length: bytes of a prompt that are read: the network's ``text_length``.
        layers: transformer layers.
        heads: of attention; they share the width, an even part each.

    Raises:
        InputError: a value is no whole number in range, or the heads do not fit.
    """

    width: int
    length: int
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            _check(name, getattr(self, name))
        if self.width % (2 * self.heads):
            raise InputError(f"text encoder: width {self.width} does not split into {self.heads} heads of even width")

    @classmethod
    def from_dict(cls, fields: dict[str, object]) -> "ByteEncoderConfig":
        """Config from decoded JSON.

        Raises:
            InputError: a field is unknown, missing, no whole number, or out of range.
        """
        values: dict[str, Any] = dict(fields)
        for name in values.keys() & cls.__dataclass_fields__.keys():  # before a run-time type checker sees them
            _check(name, values[name])
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"not the config of a text encoder over bytes: {error}") from error


def _check(name: str, value: object) -> None:
    if type(value) is not int or not 1 <= value <= _LARGEST:
        raise InputError(f"text encoder: {name} is {value!r}: it must be a whole number from 1 to {_LARGEST}")


class ByteEncoder(nn.Module):
    """A ``TextEncoder`` without a vocabulary; no prompt at all is all zeros, as dropped text is in training.

    Attention is causal, so that bytes see those before them and never the padding.
    """

    def __init__(self, config: ByteEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.bytes = nn.Embedding(PADDING, config.width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)

    @property
    def width(self) -> int:
        """Channels of a vector."""
        return self.config.width

    @property
    def length(self) -> int:
        """Vectors of a prompt with its padding."""
        return self.config.length

    def cuts(self, prompt: str) -> bool:
        """Whether a prompt has more bytes than are read."""
        return len(prompt.encode(errors="surrogatepass")) > self.length

    def encode(self, prompts: Sequence[str], /) -> Float[Tensor, "B S K"]:
        """Embeddings of prompts, a vector a byte; gradients flow where they are enabled."""
        return self(byte_values(prompts, self.length).to(self.bytes.weight.device))

    def forward(self, values: Int[Tensor, "B S"]) -> Float[Tensor, "B S K"]:
        """Embeddings of what :func:`byte_values` gives."""
        given_BS = values != PADDING
        longest = int(given_BS.sum(dim=1).max()) if len(values) else 0
        h_BLD = self.bytes(values[:, :longest].clamp(max=PADDING - 1))
        places = torch.arange(longest, dtype=torch.float32, device=h_BLD.device)
        rates = frequencies(self.width // self.config.heads).to(h_BLD.device)
        by = rotation(torch.outer(places, rates))
        for layer in self.layers:
            h_BLD = layer(h_BLD, by)
        h_BLD = self.norm(h_BLD).masked_fill(~given_BS[:, :longest, None], 0)
        return F.pad(h_BLD, (0, 0, 0, values.shape[1] - longest))


def byte_values(prompts: Sequence[str], length: int) -> Int[Tensor, "B {length}"]:
    """UTF-8 bytes of prompts, cut at ``length`` and filled up with 256: what the encoder reads, for a data loader."""
    values_BS = torch.full((len(prompts), length), PADDING)
    for row, prompt in zip(values_BS, prompts, strict=True):
        # A lone surrogate, which a file name in another encoding can bring, is a byte too.
        encoded = prompt.encode(errors="surrogatepass")[:length]
        row[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.int64)
    return values_BS


class _Layer(nn.Module):
    def __init__(self, config: ByteEncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.up, self.down = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, h_BLD: Float[Tensor, "B L D"], by: Rotation) -> Float[Tensor, "B L D"]:
        q, k, v = rearrange(self.qkv(self.attention_norm(h_BLD)), "b l (k n h) -> k b l n h", k=3, n=self.heads)
        h_BLD = h_BLD + self.out(attention(rotate(q, by), rotate(k, by), v, causal=True).flatten(-2))
        return h_BLD + self.down(F.gelu(self.up(self.mlp_norm(h_BLD))))
