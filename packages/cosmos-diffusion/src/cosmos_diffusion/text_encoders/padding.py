"""Embeddings at the network's length: zeros behind the end, which take part in its attention, and off again."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def padded(embeddings: Sequence[Float[Tensor, "_ K"]], length: int) -> Float[Tensor, "B {length} K"]:
    """One or more embeddings in a batch, each cut at ``length`` vectors or filled up with zeros to it."""
    first = embeddings[0]
    text_BSK = first.new_zeros(len(embeddings), length, first.shape[1])
    for row, embedding in zip(text_BSK, embeddings, strict=True):
        row[: len(embedding)] = embedding[:length]
    return text_BSK


def trimmed(text: Float[Tensor, "S K"]) -> Float[Tensor, "_ K"]:
    """An embedding without the vectors of all zeros at its end."""
    filled = torch.nonzero(text.abs().amax(dim=1))
    return text[: int(filled[-1]) + 1 if len(filled) else 0]
