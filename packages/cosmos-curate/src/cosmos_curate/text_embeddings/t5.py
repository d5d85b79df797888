"""Text embeddings by a T5 encoder (arXiv 1910.10683), which world models of this design are conditioned on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from cosmos_curate.captions.pretrained import pretrained, pretrained_model, torch_device, transformers_library
from cosmos_curate.errors import InputError

Encode = Callable[[Sequence[str]], list[np.ndarray]]
"""Texts in, for each the vectors of its tokens out: `L D`, without padding, L at least 1."""
FloatType = Literal["float16", "float32"]

_WHAT = "T5 encoder"


@dataclass(frozen=True, kw_only=True)
class TextEmbeddingConfig:
    """Which encoder embeds captions.

    Args:
        encoder: folder or hub id of a T5, such as google-t5/t5-11b, 1024 wide, which Cosmos models read; None embeds
            nothing, and the Cosmos layout then has no `t5_xxl`.
        revision: branch, tag or commit of a hub id.
        tokens: of a text at most, its end mark included; what is behind them is cut off.
        dtype: of the vectors; Cosmos data has float16.
        device: "auto" for the GPU where there is one, else the CPU; or torch's name of one.
    """

    encoder: str | None = None
    revision: str | None = None
    tokens: int = 512
    dtype: FloatType = "float16"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.encoder is not None and not self.encoder.strip():
            raise InputError("encoder is empty: give a folder or a hub id, or none")
        if self.tokens < 1:
            raise InputError(f"tokens is {self.tokens}: give a whole number from 1 up; released models take 512")
        if self.dtype not in get_args(FloatType):
            raise InputError(f"dtype is {self.dtype!r}: give {' or '.join(get_args(FloatType))}")


def check_text_encoder(config: TextEmbeddingConfig) -> None:
    """Look, without reading its weights, whether the encoder can be had.

    Raises:
        InputError: as `open_text_encoder`.
    """
    if config.encoder is not None:
        _library_and_source(config)


def open_text_encoder(config: TextEmbeddingConfig) -> Encode | None:
    """Return the function that embeds texts, its weights read; None where no encoder is set.

    Each text goes through the model alone, so that its vectors do not hang on its neighbours. The encoder computes in
    float32 on the CPU, elsewhere as its weights are saved.

    Raises:
        InputError: transformers is not installed, the source is no T5, or there is no such device.
    """
    if config.encoder is None:
        return None
    library, source, given = _library_and_source(config)
    device = torch_device(config.device)
    tokenizer = pretrained(library.AutoTokenizer.from_pretrained, source, "tokenizer", **given)
    model = pretrained_model(library.T5EncoderModel, source, _WHAT, device, **given)

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        import torch

        embedded = []
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=config.tokens, return_tensors="pt").input_ids
            if not ids.shape[1]:
                raise InputError(f"{source}: its tokenizer makes no token of {text[:40]!r}; it should end texts by one")
            with torch.inference_mode():
                vectors = model(input_ids=ids.to(device)).last_hidden_state[0]
            vectors = vectors.float().cpu().numpy()
            with np.errstate(over="ignore"):
                vectors = vectors.astype(config.dtype)
            if not np.isfinite(vectors).all():
                raise InputError(f"{source}: an embedding does not fit into {config.dtype}; give dtype float32")
            embedded.append(vectors)
        return embedded

    return encode


def _library_and_source(config: TextEmbeddingConfig) -> tuple[Any, str, dict[str, Any]]:
    """transformers, the encoder's path or id, and which revision of it; the encoder is a T5."""
    source = str(config.encoder)
    given: dict[str, Any] = {} if config.revision is None else {"revision": config.revision}
    library = transformers_library()
    kind = pretrained(library.AutoConfig.from_pretrained, source, _WHAT, **given).model_type
    if kind != "t5":
        raise InputError(f"{source}: is a model of type {kind}, and a T5 encoder was expected")
    return library, source, given
