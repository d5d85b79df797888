"""What the prompt upsamplers ask of a language model, and the two ways to one: an endpoint, or transformers here."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

Frame = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How an answer is drawn: ``temperature``, at most ``tokens`` tokens, from the likeliest ``top_p`` of the mass."""

    temperature: float
    tokens: int
    top_p: float | None = None


@runtime_checkable
class Chat(Protocol):
    """A language model that answers. Satisfied without inheriting."""

    def reply(self, text: str, frame: Frame | None, sampling: Sampling, /) -> str:
        """The answer to one turn of a user, with a picture where one is given.

        Raises:
            InputError: there is no answer, in one line.
        """
        ...


def open_chat(source: str, *, model: str | None = None, key: str | None = None, device: str = "cpu") -> Chat:
    """A language model by URL (``Endpoint``), or by folder or hub id (``LocalChat``).

    Args:
        source: which.
        model: its name at the endpoint.
        key: for the endpoint.
        device: where a local one runs.

    Raises:
        InputError: as for the two.
    """
    if "://" in source:
        from cosmos_diffusion.chat_endpoint import Endpoint

        return Endpoint(source, model or "", key=key)
    from cosmos_diffusion.chat_local import LocalChat

    return LocalChat(source, device=device)
