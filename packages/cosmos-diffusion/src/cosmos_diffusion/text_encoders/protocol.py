"""What world models ask of a text encoder; anything with these members is one."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class TextEncoder(Protocol):
    """Prompts to what the network's cross-attention reads. Satisfied without inheriting: ``check_text_encoder``."""

    @property
    def width(self) -> int:
        """Channels of a vector, ``K``: the network's ``text_width``, or its ``text_projection`` where it has one."""
        ...

    @property
    def length(self) -> int:
        """Vectors of a prompt with its padding, ``S``."""
        ...

    def encode(self, prompts: Sequence[str], /) -> Float[Tensor, "B S K"]:
        """Embeddings of prompts, each as if it were alone; exact zeros behind its end, and cut where it is too long.

        In the encoder's own dtype and on its device.
        """
        ...
