"""ONNX models in the user's cache: exported once from weights that are installed, offline, and run by onnxruntime."""

import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def cache_folder() -> Path:
    """Return the folder of exported models: `cosmos-curate` in the user's cache, as each system has it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cosmos-curate"


@functools.cache
def sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exported_path(name: str, version: int, weights: Path) -> Path:
    """Return where `exported` keeps the ONNX file of these weights, whether or not it is there yet."""
    return cache_folder() / f"{name}-{version}-{sha256(weights)[:16]}.onnx"


def exported(name: str, version: int, weights: Path, export: Callable[[Path, Path], None]) -> Path:
    """Return the ONNX file of these weights, made by `export(weights, target)` if it is not there yet.

    Args:
        name: file name without suffix.
        version: of the code that exports; raised when it would write another network.
        weights: the file whose bytes, with name and version, decide whether a cached export is the right one.

    Raises:
        OSError: the cache cannot be written.
    """
    target = exported_path(name, version, weights)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as folder:
            beside = Path(folder) / target.name
            export(weights, beside)
            os.replace(beside, target)
    return target


def without_telemetry() -> None:
    """Keep onnxruntime, not imported yet, from noting sessions for its makers, in TMPDIR too; unless told to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def open_session(path: Path, *, threads: int = 1) -> "InferenceSession":
    """Return a session on the GPU if onnxruntime has one, else on the CPU: one thread always gives the same bits."""
    without_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps a second copy of all intermediate values, and saves no time
    options.log_severity_level = 3
    usable = [
        name
        for name in ("CUDAExecutionProvider", "CPUExecutionProvider")
        if name in onnxruntime.get_available_providers()
    ]
    return onnxruntime.InferenceSession(str(path), options, providers=usable)
