"""How evenly a stream of indices uses its codebook: share of codes used, entropy, and perplexity."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from cosmos_tokenizer.errors import InputError

_CHUNK = 1 << 20


class CodeUsage:
    """A histogram of the indices 0 ... prod(levels) - 1, in memory of one int64 a code.

    Of n indices no more than n codes can be seen, and the entropy of few comes out too low, by about
    (used codes - 1) / (2 n ln 2) bits (Miller 1955): compare figures of as many indices.

    Args:
        levels: of the quantiser's channels, as in a discrete model's config.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        self._counts_K = torch.zeros(math.prod(levels), dtype=torch.int64)

    def update(self, indices: Int[Tensor, "..."]) -> None:
        """Count more indices.

        Raises:
            InputError: one lies outside the codebook.
        """
        size = len(self._counts_K)
        for chunk in indices.detach().reshape(-1).split(_CHUNK):
            if not chunk.numel():
                continue
            low, high = (int(value) for value in chunk.aminmax())
            if low < 0 or high >= size:
                raise InputError(
                    f"index {low if low < 0 else high} is out of range: this codebook has 0 ... {size - 1}"
                )
            self._counts_K = self._counts_K + torch.bincount(chunk.cpu(), minlength=size)

    def merge(self, other: "CodeUsage") -> None:
        """Count the indices of another one of the same codebook.

        Raises:
            InputError: the codebooks differ in size.
        """
        here, there = len(self._counts_K), len(other._counts_K)
        if here != there:
            raise InputError(f"codebooks of {here} and of {there} codes do not add up; count each by itself")
        self._counts_K = self._counts_K + other._counts_K

    @property
    def total(self) -> int:
        """Indices so far."""
        return int(self._counts_K.sum())

    @property
    def usage(self) -> float:
        """Share of the codes that were seen, 0 ... 1."""
        return int((self._counts_K > 0).sum()) / len(self._counts_K)

    @property
    def entropy_bits(self) -> float:
        """Entropy of the observed frequencies in bits an index; 0 where there are none."""
        seen = self._counts_K[self._counts_K > 0].to(torch.float64)
        shares = seen / seen.sum()
        return max(0.0, -float((shares * shares.log2()).sum()))

    @property
    def perplexity(self) -> float:
        """2 to the power of the entropy: how many codes, used evenly, would tell as much."""
        return 2.0**self.entropy_bits
