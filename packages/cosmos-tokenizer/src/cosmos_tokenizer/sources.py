"""Where a checkpoint lies: shipped weights by name, a file, a folder, an encoder and a decoder file, or a hub id."""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cosmos_tokenizer import hub
from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.diffusers_layout import WEIGHTS_FILE
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.native import STATISTICS_FILE
from cosmos_tokenizer.presets import PRESETS

Source = str | Path | tuple[str | Path, str | Path]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".jit", ".ckpt")
GROUPS = (
    ("autoencoder.jit",),
    ("encoder.jit", "decoder.jit"),
    ("model.pt",),
    ("model.safetensors",),
    (WEIGHTS_FILE,),
    ("encoder.jit",),
    ("decoder.jit",),
)
"""Names that a checkpoint's files have in a folder or a repository: both halves in one file first, one half last."""


@dataclass(frozen=True, slots=True)
class Found:
    """Files of a checkpoint: one, or those of encoder and decoder; and the network that a hub id stands for."""

    files: tuple[Path, ...]
    preset: TokenizerConfig | None = None


def find(source: Source) -> Found:
    """The files that a source stands for; a hub id is downloaded.

    Raises:
        InputError: there is nothing of that name, or a folder without a checkpoint.
    """
    if isinstance(source, tuple):
        return Found(tuple(_file(Path(path)) for path in source))
    shipped = resources.files("cosmos_tokenizer") / "weights" / f"{source}.safetensors"
    if source in PRESETS and shipped.is_file():
        with resources.as_file(shipped) as path:
            return Found((path,))
    path = Path(source)
    if path.is_dir():
        return Found(_in_folder(path))
    if path.exists():
        return Found((path,))
    name = str(source)
    if _HUB_ID.fullmatch(name) and not name.endswith(_SUFFIXES):
        return Found(_in_folder(hub.download(name, GROUPS)), hub.preset_of(name))
    if name in PRESETS:
        raise InputError(
            f"{name} is a preset without weights in this package: give a file, a folder or a hub id of such a network "
            f"(shipped: {', '.join(_shipped()) or 'none'})"
        )
    raise InputError(
        f"there is no file or folder {name}, and it is neither a hub id (org/name) nor shipped weights "
        f"({', '.join(_shipped()) or 'none'})"
    )


def _shipped() -> list[str]:
    return [n for n in PRESETS if (resources.files("cosmos_tokenizer") / "weights" / f"{n}.safetensors").is_file()]


def _file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return path


def _in_folder(folder: Path) -> tuple[Path, ...]:
    for names in GROUPS:
        files = tuple(folder / name for name in names)
        if all(path.is_file() for path in files):
            return files
    if (folder / "vae").is_dir():
        return _in_folder(folder / "vae")
    for suffix in ("safetensors", "pt"):
        files = sorted(path for path in folder.glob(f"*.{suffix}") if path.name != STATISTICS_FILE)
        if len(files) > 1:
            raise InputError(
                f"folder {folder} holds several checkpoints: name one of {', '.join(p.name for p in files)}"
            )
        if files:
            return tuple(files)
    raise InputError(
        f"folder {folder} holds no checkpoint: expected autoencoder.jit, encoder.jit and decoder.jit, model.pt, "
        "a diffusers autoencoder (config.json and safetensors), or one .safetensors or .pt file"
    )
