"""Checkpoints from any layout that ``load`` reads to ours, NVIDIA's native state dict, or diffusers' folder."""

import json
from pathlib import Path
from typing import get_args

import torch

from cosmos_diffusion import diffusers_layout, weight_files
from cosmos_diffusion.checkpoint import WEIGHTS, Layout, read, write
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.native_layout import to_native
from cosmos_diffusion.sources import Source
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import whole_folder, write_whole

LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def convert(
    source: Source,
    output: str | Path,
    *,
    to: Layout = "ours",
    config: str | DiTConfig | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a checkpoint in another layout, and return the file or folder written.

    Every weight of the network keeps its bits and its dtype, unless ``dtype`` asks for another; no network is built,
    and what keeps its dtype goes from file to file. Only ours has a place for a text encoder, statistics and defaults,
    and diffusers' has none for the uncertainty: what finds none is left out. A native file does not say what shapes do
    not, so that networks unlike every released one need ``config`` when they are read from it.

    Args:
        source, config: as for ``load``.
        output: for "ours" a safetensors file; for "native" a torch pickle; for "diffusers" a folder, new or empty.
        to: layout of the output.
        dtype: of the network's weights, and of a text encoder's.

    Raises:
        InputError: as for ``load``; or the layout has no place for such a network, or the folder is in use.
        OSError: the output cannot be written; nothing of it is left then.
    """
    if to not in LAYOUTS:
        raise InputError(f"to is {to!r}: use {', '.join(map(repr, LAYOUTS))}")
    checkpoint = read(source, config=config)
    shape, state, path = checkpoint.model.config, dict(checkpoint.state), Path(output)
    if dtype is not None:
        state = {name: value.to(dtype) if name.startswith(WEIGHTS) else value for name, value in state.items()}
    if to == "ours":
        write(checkpoint.model, state, path)
    elif to == "native":
        weight_files.write_pickle(path, to_native(shape, state))
    else:
        weights, fields, metadata = diffusers_layout.to_diffusers(shape, state)
        with whole_folder(path) as beside:
            weight_files.write_safetensors(beside / diffusers_layout.WEIGHTS_FILE, weights, metadata)
            write_whole(beside / diffusers_layout.CONFIG_FILE, json.dumps(fields, indent=2).encode())
    return path
