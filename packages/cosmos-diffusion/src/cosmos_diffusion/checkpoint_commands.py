"""The commands about files that hold models: info and convert. Each returns what `--json` prints."""

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cosmos_diffusion.checkpoint import read
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.conversion import convert as convert_checkpoint
from cosmos_diffusion.fingerprint import fingerprint
from cosmos_tokenizer import InputError


def info(args: Namespace) -> dict[str, Any]:
    """Print what a checkpoint holds."""
    checkpoint = read(args.source, config=config_of(args.config))
    model = checkpoint.model
    network = {name: value for name, value in checkpoint.state.items() if name.startswith("net.")}
    result = {
        "source": args.source,
        "layout": checkpoint.layout,
        "parameters": sum(value.numel() for value in network.values()),
        "dtype": ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in network.values()})),
        "uncertainty": any(name.startswith("uncertainty.") for name in checkpoint.state),
        "text_encoder": None if model.text_encoder is None else asdict(model.text_encoder.config),
        "defaults": asdict(model.defaults),
        "config": asdict(model.config),
        "fingerprint": fingerprint(model.config, network),
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    return result


def convert(args: Namespace) -> dict[str, Any]:
    """Write a checkpoint in another layout."""
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    convert_checkpoint(args.source, args.output, to=args.to, config=config_of(args.config), dtype=dtype)
    print(f"{args.source} -> {args.output}")
    return {"source": args.source, "to": args.to, "output": args.output}


def config_of(text: str | None) -> str | DiTConfig | None:
    """Return what `--config` means: the config in a JSON file, or else the name of a preset.

    Raises:
        InputError: the file holds no config.
    """
    if text is None or not Path(text).is_file():
        return text
    try:
        fields = json.loads(Path(text).read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{text} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{text} holds no config: the fields of one were expected, as info --json prints them")
    return DiTConfig.from_dict(fields)
