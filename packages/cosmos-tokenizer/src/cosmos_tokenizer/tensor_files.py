"""The tensors of a checkpoint file: safetensors, a torch pickle or TorchScript, told apart by content, not suffix."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.torchscript import read_torchscript

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80\x02"
_LONGEST_HEADER = 100_000_000
_WRAPPERS = ("model", "module", "state_dict")


def read(path: Path, *, mapped: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the metadata strings (safetensors only).

    No code of the file runs: pickles are read with ``weights_only=True``, TorchScript as an archive. Of a training
    checkpoint, the ``model``, ``module`` or ``state_dict`` entry is read.

    Args:
        path: of the file.
        mapped: leave the bytes of a torch pickle in the file until they are used, as those of safetensors always are:
            the file must then keep its bytes (another may take its name). Old pickles that are no archive are read.

    Raises:
        InputError: the file is empty, truncated, of another format, or holds no tensors.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    metadata: dict[str, str] = {}
    if head.startswith(_ZIP):
        tensors = _named_tensors(_archive(path, mapped))
    elif head.startswith(_PICKLE):
        tensors = _named_tensors(_pickle(path))
    elif head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER:
        tensors, metadata = _safetensors(path)
    elif not head:
        raise InputError("the file is empty")
    else:
        raise InputError(
            f"not a checkpoint: it starts with {head!r}, as neither safetensors, a torch pickle nor TorchScript does"
        )
    if not tensors:
        raise InputError("it holds no tensors by name: a state dict was expected")
    return tensors, metadata


@contextmanager
def opened(path: Path | str) -> Iterator[safe_open]:
    """A safetensors file whatever its name: the library takes UTF-8 alone, so any other is opened by way of a link."""
    if readable(str(path)) == str(path):
        with safe_open(path, framework="pt") as file:
            yield file
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "file"
        link.symlink_to(Path(path).resolve())
        with safe_open(link, framework="pt") as file:
            yield file


def read_pair(path: Path) -> tuple[Tensor, Tensor]:
    """Two tensors that a torch pickle holds in a row, as ``mean_std.pt`` does."""
    found = _pickle(path)
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not all(isinstance(x, Tensor) for x in found):
        raise InputError("it does not hold two tensors (mean, std)")
    return found[0], found[1]


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with opened(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"a truncated or damaged safetensors file ({_one_line(error)})") from error


def _archive(path: Path, mapped: bool) -> object:
    try:
        with zipfile.ZipFile(path) as file:
            scripted = any(name.endswith("/constants.pkl") for name in file.namelist())
    except zipfile.BadZipFile as error:
        raise InputError(f"a truncated or damaged torch file ({_one_line(error)})") from error
    return read_torchscript(path) if scripted else _pickle(path, mapped)


def _pickle(path: Path, mapped: bool = False) -> object:
    try:
        # Transformer Engine keeps the extra state of its layers as such buffers: bytes, of which nothing is run.
        with torch.serialization.safe_globals([io.BytesIO]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError:
        raise
    except Exception as error:  # torch.load names no exceptions; a damaged pickle can raise any.
        raise InputError(f"a damaged torch pickle, or one of more than tensors ({_one_line(error)})") from error


def _named_tensors(found: object) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping):
        return {}
    return {
        name: value.detach() for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)
    }


def _one_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
