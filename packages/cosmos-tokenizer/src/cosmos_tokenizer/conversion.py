"""Checkpoints from any layout that ``load`` reads to ours, NVIDIA's native state dict, or diffusers' folder."""

import io
import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save as serialise

from cosmos_tokenizer import diffusers_layout, native
from cosmos_tokenizer.atomic import whole_folder, write_whole
from cosmos_tokenizer.checkpoint import load, parts_of, save
from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.sources import Source

Layout = Literal["ours", "native", "diffusers"]


def convert(
    source: Source,
    output: str | Path,
    *,
    to: Layout = "ours",
    preset: str | TokenizerConfig | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> list[Path]:
    """Write a checkpoint in another layout, and return the files and folders written.

    Every weight that the network uses keeps its bits, unless ``dtype`` asks for another type.

    Args:
        source, preset: as for ``load``.
        output: for "ours" a safetensors file; for "native" a state dict, with ``mean_std.pt`` beside it where there are
            latent statistics; for "diffusers" a folder, new or empty, which only continuous video tokenizers have.
        to: layout of the output.
        device: where the weights are read to and changed to ``dtype``; no file written remembers it.
        dtype: of the weights written; by default that of the file.

    Raises:
        InputError: as for ``load``; or the layout has no place for such a network, or the output would replace what
            it must not.
        OSError: the output cannot be written; nothing of it is left then.
    """
    if to not in ("ours", "native", "diffusers"):
        raise InputError(f"to is {to!r}: use 'ours', 'native' or 'diffusers'")
    model = load(source, preset=preset, device=device, dtype=dtype).cpu()
    path = Path(output)
    if to == "native":
        return _write_native(model, path)
    if to == "diffusers":
        return _write_diffusers(model, path)
    save(model, path)
    return [path]


def _write_native(model: CausalTokenizer, path: Path) -> list[Path]:
    beside = path.with_name(native.STATISTICS_FILE)
    if path.name == beside.name:
        raise InputError(f"output is {path}: that name is of the statistics beside a native checkpoint, use another")
    new = False
    if model.statistics is not None:
        values = model.statistics.mean.cpu(), model.statistics.std.cpu()
        written = _pickled(values)
        if beside.exists() and beside.read_bytes() != written:
            raise InputError(f"{beside} holds the statistics of another checkpoint: write into a folder of its own")
        new = not beside.exists()
        write_whole(beside, written)
    elif beside.exists():
        raise InputError(f"{beside} would be read as statistics of this checkpoint, which has none: use another folder")
    try:
        write_whole(path, _pickled(native.to_native(model, parts_of(model))))
    except BaseException:
        if new:
            beside.unlink()
        raise
    return [path] if model.statistics is None else [path, beside]


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _write_diffusers(model: CausalTokenizer, folder: Path) -> list[Path]:
    weights, fields = diffusers_layout.to_diffusers(model)
    with whole_folder(folder) as beside:
        write_whole(beside / diffusers_layout.WEIGHTS_FILE, serialise(weights, {"format": "pt"}))
        write_whole(beside / diffusers_layout.CONFIG_FILE, json.dumps(fields, indent=2).encode())
    return [folder]
