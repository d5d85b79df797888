"""Token files: one clip's latents or indices in safetensors, with what it takes to decode them and to refuse to.

The metadata holds the clip's length, size and rate, the compression, and the fingerprint of the model that made the
tokens. A checksum of the tensor's bytes makes every damaged file an error instead of a strange picture.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int32
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.config import Kind
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.geometry import Geometry
from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.tensor_files import opened

FORMAT = "cosmos-tokenizer tokens"
VERSION = "1"

_NAMES: Mapping[Kind, Literal["latents", "indices"]] = {"continuous": "latents", "discrete": "indices"}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tokens:
    """Tokens of one clip, and what decoding them takes.

    `rate` is None for a still picture; `size` is (height, width) of the clip; `fingerprint` is the making model's, by
    half; `model` and `source` are names for people.
    """

    values: Float[Tensor, "C t h w"] | Int32[Tensor, "t h w"]
    frames: int
    size: tuple[int, int]
    rate: Fraction | None
    geometry: Geometry
    fingerprint: Mapping[str, str | None]
    model: str
    source: str

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
    """Write a token file, whole or not at all.

    Raises:
        OSError: the file cannot be written; nothing is left of it then.
    """
    values = tokens.values.detach().cpu().contiguous()
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "kind": tokens.kind,
        "frames": str(tokens.frames),
        "height": str(tokens.size[0]),
        "width": str(tokens.size[1]),
        "rate": "still" if tokens.rate is None else str(tokens.rate),
        "temporal": str(tokens.geometry.temporal),
        "spatial": str(tokens.geometry.spatial),
        "fingerprint": json.dumps(dict(tokens.fingerprint), sort_keys=True),
        "model": readable(tokens.model),
        "source": readable(tokens.source),
        "sha256": _checksum(values),
    }
    write_whole(path, save({_NAMES[tokens.kind]: values}, metadata))


def is_token_file(path: Path | str) -> bool:
    """Tell whether `path` is a token file, damaged or not, by its metadata."""
    try:
        with opened(path) as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError, ValueError):
        return False


def load_tokens(path: Path | str) -> Tokens:
    """Read a token file and check that it is whole and consistent with itself.

    Raises:
        InputError: the file is missing, no token file, of a later format, cut short, damaged, or contradicts itself.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a token file in it")
    try:
        with opened(path) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path}: is not a token file; make one with `cosmos-tokenizer encode`")
            if metadata.get("version") != VERSION:
                version = metadata.get("version")
                raise InputError(f"{path}: has token format {version!r}, and {VERSION!r} is read; update the package")
            names = list(file.keys())
            values = file.get_tensor(names[0]) if len(names) == 1 else None
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path}: may not be read; check its permissions") from error
    except (OSError, SafetensorError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: is not a token file, or is truncated or damaged; encode the clip again") from error
    if values is None:
        raise InputError(f"{path}: holds {len(names)} tensors, and a token file holds one; encode the clip again")
    try:
        tokens = _from_metadata(metadata, values)
        _check_consistent(tokens, names[0], metadata)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: is damaged ({what}); encode the clip again") from error
    return tokens


def check_tokens(
    tokens: Tokens, model: CausalTokenizer, *, fingerprint: Mapping[str, str | None] | None = None
) -> None:
    """Refuse tokens that another model made, or that this one cannot decode.

    Halves are compared where both sides know them: an encoder-only and a decoder-only checkpoint of one model share
    none, and then shapes alone decide. A model's fingerprint changes with the dtype of its weights: give the one
    taken before a conversion where there was one.

    Raises:
        InputError: the kind, the compression, the number of channels, an index or the fingerprint does not fit.
    """
    config = model.config
    if tokens.kind != config.kind:
        raise InputError(
            f"the tokens are {_NAMES[tokens.kind]} of a {tokens.kind} model ({tokens.model}), and this model is "
            f"{config.kind}; decode with the model that made them"
        )
    if tokens.geometry != model.geometry:
        raise InputError(
            f"the tokens are compressed {_compression(tokens.geometry)} ({tokens.model}), and this model does "
            f"{_compression(model.geometry)}; decode with the model that made them"
        )
    if tokens.kind == "continuous" and tokens.values.shape[0] != config.latent_channels:
        raise InputError(
            f"the tokens have {tokens.values.shape[0]} channels ({tokens.model}), and this model has "
            f"{config.latent_channels}; decode with the model that made them"
        )
    if tokens.kind == "discrete":
        low, high = int(tokens.values.min()), int(tokens.values.max())
        if low < 0 or high >= config.codebook_size:
            bad = low if low < 0 else high
            raise InputError(
                f"index {bad} is out of range: this model's indices run from 0 to {config.codebook_size - 1}; "
                "decode with the model that made them"
            )
    theirs, ours = tokens.fingerprint, model.fingerprint if fingerprint is None else fingerprint
    for half in ("encoder", "decoder"):
        made, have = theirs.get(half), ours.get(half)
        if made and have and made != have:
            raise InputError(
                f"the tokens were made by another model ({tokens.model}, {half} {made[:12]}; this one has "
                f"{have[:12]}); decode with the model that made them"
            )


def _from_metadata(metadata: Mapping[str, str], values: Tensor) -> Tokens:
    fingerprint = json.loads(metadata["fingerprint"])
    if not isinstance(fingerprint, dict) or not all(isinstance(v, str | None) for v in fingerprint.values()):
        raise ValueError("its fingerprint is unreadable")
    rate = None if metadata["rate"] == "still" else Fraction(metadata["rate"])
    if rate is not None and rate <= 0:
        raise ValueError(f"its rate is {rate}")
    return Tokens(
        values=values,
        frames=int(metadata["frames"]),
        size=(int(metadata["height"]), int(metadata["width"])),
        rate=rate,
        geometry=Geometry(temporal=_positive(metadata, "temporal"), spatial=_positive(metadata, "spatial")),
        fingerprint=fingerprint,
        model=metadata["model"],
        source=metadata["source"],
    )


def _check_consistent(tokens: Tokens, name: str, metadata: Mapping[str, str]) -> None:
    values = tokens.values
    if values.dtype not in (*_DTYPES, torch.int32):
        raise ValueError(f"its values are {values.dtype}")
    if metadata["kind"] != tokens.kind or name != _NAMES[tokens.kind]:
        raise ValueError(f"it says {metadata['kind']} and holds {name} of {values.dtype}")
    grid = (tokens.geometry.latent_frames(tokens.frames), *tokens.geometry.latent_size(*tokens.size))
    if tuple(values.shape[-3:]) != grid or values.ndim != (4 if tokens.kind == "continuous" else 3):
        clip = f"{tokens.frames} frames of {tokens.size[0]}x{tokens.size[1]}"
        raise ValueError(f"values of shape {tuple(values.shape)} do not belong to {clip}")
    if _checksum(values) != metadata["sha256"]:
        raise ValueError("its values do not match their checksum")
    if tokens.kind == "continuous" and not bool(torch.isfinite(values).all()):
        raise ValueError("its latents are not finite")


def _positive(metadata: Mapping[str, str], name: str) -> int:
    value = int(metadata[name])
    if value < 1:
        raise ValueError(f"its {name} compression is {value}")
    return value


def _compression(geometry: Geometry) -> str:
    return f"{geometry.temporal}x{geometry.spatial}x{geometry.spatial}"


def _checksum(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
