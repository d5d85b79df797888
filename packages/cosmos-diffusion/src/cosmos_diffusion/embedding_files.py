"""Text embeddings in files: ours (safetensors, with the prompt), and pickled lists of arrays, as NVIDIA's data has."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save as serialise
from torch import Tensor

from cosmos_diffusion.array_pickles import read_arrays
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.tensor_files import opened

SUFFIXES = frozenset({".safetensors", ".pickle", ".pkl"})
"""What embeddings are read from."""

_FORMAT, _VERSION = "cosmos-diffusion-text", "1"
_KEY = "text"
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedding:
    """A prompt's vectors without padding; what they were made of and by, where the file says so."""

    text: Float[Tensor, "S K"]
    prompt: str | None = None
    encoder: str | None = None


def read_embedding(path: str | Path, *, number: int = 0) -> Embedding:
    """The embedding in a file; of a pickled list, the one with that number.

    Raises:
        InputError: the file is missing, damaged, of another format, or holds no such embedding; it names the file.
        OSError: it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the name, or make it with cosmos-diffusion embed")
    try:
        return _tensor_file(path) if _is_tensor_file(path) else _pickle(path, number)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def said_of(path: Path) -> tuple[str | None, str | None]:
    """Prompt and encoder of a file of ours, without reading its vectors; None twice where it is another or damaged."""
    try:
        with opened(path) as file:
            said = file.metadata() or {}
    except (SafetensorError, OSError):
        return None, None
    return (said.get("prompt"), said.get("encoder")) if said.get("format") == _FORMAT else (None, None)


def write_embedding(path: str | Path, embedding: Embedding) -> None:
    """Write a file of ours, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    said = {"format": _FORMAT, "version": _VERSION}
    said |= {} if embedding.prompt is None else {"prompt": readable(embedding.prompt)}
    said |= {} if embedding.encoder is None else {"encoder": readable(embedding.encoder)}
    write_whole(path, serialise({_KEY: embedding.text.detach().cpu().contiguous()}, said))


def _is_tensor_file(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _tensor_file(path: Path) -> Embedding:
    try:
        with opened(path) as file:
            said = file.metadata() or {}
            if _KEY not in file.keys():  # noqa: SIM118 - it is no mapping
                raise InputError(f"it has no tensor {_KEY!r}, so it holds no embedding; make one with embed")
            text = file.get_tensor(_KEY).clone()  # off the file, which somebody may write to in place
    except SafetensorError as error:
        raise InputError(f"a truncated or damaged safetensors file ({str(error)[:120]})") from error
    if said.get("format") == _FORMAT and said.get("version") != _VERSION:
        raise InputError(f"its layout has version {said.get('version')!r}, and this package reads {_VERSION!r}")
    return Embedding(text=_checked(text), prompt=said.get("prompt"), encoder=said.get("encoder"))


def _pickle(path: Path, number: int) -> Embedding:
    arrays = read_arrays(path.read_bytes())
    if not 0 <= number < len(arrays):
        raise InputError(f"it holds {len(arrays)} embeddings, and number {number} was asked for")
    array = arrays[number]
    # torch takes neither foreign byte orders nor memory that may not be written.
    return Embedding(text=_checked(torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))))


def _checked(text: Tensor) -> Tensor:
    if text.dim() != 2 or not text.shape[1] or not text.is_floating_point():
        dtype = str(text.dtype).removeprefix("torch.")
        raise InputError(
            f"its embedding is {dtype} of shape {tuple(text.shape)}, and floats of n x width were expected"
        )
    if not text.isfinite().all():
        raise InputError("its embedding has values that are not finite")
    return text
