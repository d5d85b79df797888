"""Where a checkpoint lies: shipped weights by name, a file, a folder, a pipeline's folder, or a hub id."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from cosmos_diffusion.diffusers_layout import CONFIG_FILE, WEIGHTS_FILE
from cosmos_diffusion.presets import PRESETS
from cosmos_diffusion.weight_files import INDEX
from cosmos_tokenizer import InputError, hub

Source = str | Path

GROUPS = (
    ("model.safetensors",),
    (WEIGHTS_FILE,),
    (WEIGHTS_FILE + INDEX, WEIGHTS_FILE.replace(".", "-*.")),
    ("model.pt",),
)
"""Names that a checkpoint's files have in a folder or a repository; the first of each is the one to read."""
_TRANSFORMER = "transformer"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json")


def find(source: Source) -> Path:
    """The file that a source stands for, or the index of its shards; a hub id is downloaded.

    Raises:
        InputError: there is nothing of that name, or a folder without a checkpoint.
    """
    name = str(source)
    if name in _shipped():
        with resources.as_file(_weights() / f"{name}.safetensors") as path:
            return path
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return path
    if _HUB_ID.fullmatch(name) and not name.endswith(_SUFFIXES):
        folder = hub.download(
            name, GROUPS, subfolder=f"{_TRANSFORMER}/", beside=(CONFIG_FILE,), package="cosmos-diffusion"
        )
        return _in_folder(folder)
    shipped = ", ".join(_shipped()) or "none"
    if name in PRESETS:
        raise InputError(
            f"{name} is a preset without weights in this package: give a file, a folder or a hub id of such a network "
            f"(shipped: {shipped})"
        )
    raise InputError(
        f"there is no file or folder {name}, and it is neither a hub id (org/name) nor shipped weights ({shipped})"
    )


def _weights() -> Traversable:
    return resources.files("cosmos_diffusion") / "weights"


def _shipped() -> list[str]:
    folder = _weights()
    files = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(name.removesuffix(".safetensors") for name in files if name.endswith(".safetensors"))


def _in_folder(folder: Path) -> Path:
    for first, *_ in GROUPS:
        if (folder / first).is_file():
            return folder / first
    if (folder / _TRANSFORMER).is_dir():
        return _in_folder(folder / _TRANSFORMER)
    for suffix in ("safetensors", "pt"):
        files = sorted(folder.glob(f"*.{suffix}"))
        if len(files) > 1:
            raise InputError(
                f"folder {folder} holds several checkpoints: name one of {', '.join(path.name for path in files)}"
            )
        if files:
            return files[0]
    raise InputError(
        f"folder {folder} holds no checkpoint: expected model.safetensors, model.pt, a diffusers transformer or a "
        f"pipeline with one ({CONFIG_FILE} and {WEIGHTS_FILE} or its shards), or one .safetensors or .pt file"
    )
