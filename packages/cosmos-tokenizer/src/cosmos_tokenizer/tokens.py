"""Tokens of a whole clip in memory and in its file, and whether a model can decode them; see `token_files`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from cosmos_tokenizer.config import Kind
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.geometry import Geometry
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.token_files import NAMES, TokenInfo, TokenReader, Values, token_writer


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tokens(TokenInfo):
    """Tokens of one clip, and what decoding them takes."""

    values: Values

    @property
    def kind(self) -> Kind:
        """Whether the values are latents ("continuous") or indices ("discrete")."""
        return "continuous" if self.values.is_floating_point() else "discrete"


def check_token_name(path: Path | str) -> None:
    """Raise InputError unless a new or plain file's name ends in `.safetensors`: nothing else is replaced by tokens."""
    path = Path(path)
    if path.suffix.lower() != ".safetensors" and (path.is_file() or not path.exists()):
        raise InputError(f"{path}: tokens are written as safetensors; give a name that ends in .safetensors")


def save_tokens(path: Path | str, tokens: Tokens) -> None:
    """Write a token file of one tensor, whole or not at all.

    Raises:
        OSError: the file cannot be written; nothing is left of it then.
    """
    with token_writer(path) as writer:
        writer.push(tokens.values)
        writer.finish(tokens)


def load_tokens(path: Path | str) -> Tokens:
    """Read a token file, in parts or not, and check that it is whole and consistent with itself.

    Raises:
        InputError: the file is missing, no token file, of a later format, cut short, damaged, or contradicts itself.
    """
    reader = TokenReader(path)
    parts = list(reader.parts())
    values = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-3)
    return Tokens(values=values, **{field.name: getattr(reader.info, field.name) for field in fields(TokenInfo)})


def check_tokens(
    tokens: Tokens, model: CausalTokenizer, *, fingerprint: Mapping[str, str | None] | None = None
) -> None:
    """Refuse tokens that another model made, or that this one cannot decode; see the two halves of the check."""
    check_maker(tokens, tokens.kind, tuple(tokens.values.shape), model, fingerprint=fingerprint)
    check_range(tokens.values, model)


def check_maker(
    info: TokenInfo,
    kind: Kind,
    shape: tuple[int, ...],
    model: CausalTokenizer,
    *,
    fingerprint: Mapping[str, str | None] | None = None,
) -> None:
    """Refuse tokens of this kind and shape that another model made, or that this one cannot decode.

    Halves are compared where both sides know them: an encoder-only and a decoder-only checkpoint of one model share
    none, and then shapes alone decide. A model's fingerprint changes with the dtype of its weights: give the one
    taken before a conversion where there was one.

    Raises:
        InputError: the kind, the compression, the number of channels or the fingerprint does not fit.
    """
    config = model.config
    if kind != config.kind:
        raise InputError(
            f"the tokens are {NAMES[kind]} of a {kind} model ({info.model}), and this model is "
            f"{config.kind}; decode with the model that made them"
        )
    if info.geometry != model.geometry:
        raise InputError(
            f"the tokens are compressed {_compression(info.geometry)} ({info.model}), and this model does "
            f"{_compression(model.geometry)}; decode with the model that made them"
        )
    if kind == "continuous" and shape[0] != config.latent_channels:
        raise InputError(
            f"the tokens have {shape[0]} channels ({info.model}), and this model has "
            f"{config.latent_channels}; decode with the model that made them"
        )
    theirs, ours = info.fingerprint, model.fingerprint if fingerprint is None else fingerprint
    for half in ("encoder", "decoder"):
        made, have = theirs.get(half), ours.get(half)
        if made and have and made != have:
            raise InputError(
                f"the tokens were made by another model ({info.model}, {half} {made[:12]}; this one has "
                f"{have[:12]}); decode with the model that made them"
            )


def check_range(values: Tensor, model: CausalTokenizer) -> None:
    """Refuse indices, some or all of a clip, that this model does not have.

    Raises:
        InputError: an index is negative, or not below the size of the codebook.
    """
    if values.is_floating_point():
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= model.config.codebook_size:
        bad = low if low < 0 else high
        raise InputError(
            f"index {bad} is out of range: this model's indices run from 0 to {model.config.codebook_size - 1}; "
            "decode with the model that made them"
        )


def _compression(geometry: Geometry) -> str:
    return f"{geometry.temporal}x{geometry.spatial}x{geometry.spatial}"
