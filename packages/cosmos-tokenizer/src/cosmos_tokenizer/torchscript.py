"""Tensors of a TorchScript archive, the format of the released checkpoints, read without running the code in it.

``torch.jit.load`` compiles the archive's own code and runs what restores its modules, whatever that does. The tensors
are in a pickle of the module tree (``data.pkl``) and one entry each (``data/0``, ...). Of that pickle nothing is called
here: modules, lists and tensors become plain records, and a name beyond those that TorchScript writes is refused.
"""

import pickle
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from cosmos_tokenizer.errors import InputError

_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


class _Record:
    """What a pickle makes of a class or a function: it keeps what it is given."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Module(_Record):
    """An object of a class in the archive: ``state`` holds its attributes by name."""

    __slots__ = ()


class _Stored(_Record):
    """A tensor: its storage, the offset in it, the shape and the strides are the first ``arguments``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: torch.dtype


class _Records(pickle.Unpickler):
    """Unpickler that calls nothing but the records above."""

    def find_class(self, module: str, name: str, /) -> object:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Stored
        if module == "torch.jit._pickle" or (module, name) in {("collections", "OrderedDict"), ("torch", "device")}:
            return _Record
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no module tree needs")

    def persistent_load(self, pid: object, /) -> _Storage:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), str(), int()):
                return _Storage(key, dtype)
        raise pickle.UnpicklingError(f"it refers to {pid!r}, which is no storage")


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript file by name, as its ``state_dict`` would give them, on the CPU.

    Raises:
        InputError: the file is damaged, or holds anything but modules, tensors and plain values.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (root,) = {name.split("/")[0] for name in archive.namelist() if name.endswith("/constants.pkl")}
            if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
                raise InputError("a TorchScript file of a big-endian machine: convert it there")
            tree = _Records(BytesIO(archive.read(f"{root}/data.pkl"))).load()
            stored = _named(tree, "")
            used = {cast(_Storage, record.arguments[0]) for record in stored.values()}
            storages = {storage: _read(archive, root, storage) for storage in used}
        return {name: _tensor(record, storages) for name, record in stored.items()}
    except (InputError, OSError):
        raise
    except Exception as error:  # A damaged pickle or archive can raise any.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"a damaged TorchScript file, or one of more than modules and tensors ({reason})") from error


def _named(module: object, prefix: str) -> dict[str, _Stored]:
    if not isinstance(module, _Module) or not isinstance(module.state, dict):
        return {}
    found: dict[str, _Stored] = {}
    for name, value in module.state.items():
        if isinstance(value, _Stored):
            found[f"{prefix}{name}"] = value
        else:
            found |= _named(value, f"{prefix}{name}.")
    return found


def _read(archive: zipfile.ZipFile, root: str, storage: _Storage) -> Tensor:
    content = bytearray(archive.read(f"{root}/data/{storage.key}"))
    return torch.frombuffer(content, dtype=storage.dtype) if content else torch.empty(0, dtype=storage.dtype)


def _tensor(record: _Stored, storages: dict[_Storage, Tensor]) -> Tensor:
    storage, offset, shape, stride = record.arguments[:4]
    # as_strided refuses what reaches beyond the storage.
    return storages[cast(_Storage, storage)].as_strided(
        cast(tuple[int, ...], shape), cast(tuple[int, ...], stride), cast(int, offset)
    )
