"""Models of transformers (extra `vlm`) from a folder or a hub id: imported when used, one line for what fails."""

import hashlib
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cosmos_curate.errors import InputError
from cosmos_curate.models.cache import sha256

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WEIGHTS = (".safetensors", ".bin")


def transformers_library() -> Any:  # noqa: ANN401 - a package that may be absent
    """Return the module.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError as error:
        raise InputError('models by path or hub id need transformers: pip install "cosmos-curate[vlm]"') from error


def torch_device(name: str) -> "torch.device":
    """Return the device of a name; "auto" is the GPU where there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled with CUDA
        raise InputError(f"device is {name!r}, which is not here: give auto, cpu, cuda or cuda:NUMBER") from error
    return device


def pretrained(read: Callable[..., T], source: str, what: str, **options: Any) -> T:  # noqa: ANN401 - of transformers
    """Return what a `from_pretrained` gives of a folder or a hub id.

    Raises:
        InputError: it cannot be read, in one line.
    """
    if not Path(source).exists() and not _HUB_ID.fullmatch(source):
        raise InputError(f"{source}: no {what} can be read there, for there is no such folder; give one, or a hub id")
    try:
        return read(source, **options)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # transformers and what it calls raise anything for a damaged file
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"{source}: no {what} can be read there ({reason[:200]}); give a folder or a hub id"
        ) from error


def pretrained_model(kind: Any, source: str, what: str, device: "torch.device", **options: Any) -> Any:  # noqa: ANN401
    """Return the whole of a model on a device, in eval mode: float32 on the CPU, elsewhere as it was saved.

    Raises:
        InputError: it cannot be read, or weights are missing or misshapen, which transformers would make up.
    """
    dtype = "float32" if device.type == "cpu" else "auto"
    model, report = pretrained(kind.from_pretrained, source, what, dtype=dtype, output_loading_info=True, **options)
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise InputError(
            f"{source}: {len(wrong)} weights are missing or misshapen, the first {wrong[0]}; copy it again"
        )
    return model.to(device).eval()


def weights_of(source: str) -> dict[str, str]:
    """Return the sha256 of each file of weights in a folder, by name; of a hub id nothing, for its revision names it.

    Small models take moments; fifteen gigabytes half a minute, once a process.
    """
    folder = Path(source)
    if not folder.is_dir():
        return {}
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.suffix in _WEIGHTS}


def source_name(source: str) -> str:
    """Return what to call a model: its hub id, or a folder's own name with the start of a hash of its weights."""
    if not Path(source).is_dir():
        return source
    mixed = hashlib.sha256("".join(weights_of(source).values()).encode()).hexdigest()
    return f"{Path(source).resolve().name}@{mixed[:8]}"
