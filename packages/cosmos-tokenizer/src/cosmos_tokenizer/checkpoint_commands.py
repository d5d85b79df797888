"""The commands about files that hold models or tokens: info and convert. Each returns what `--json` prints."""

from argparse import Namespace
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from cosmos_tokenizer.codec_commands import open_model, source_of
from cosmos_tokenizer.conversion import convert as convert_checkpoint
from cosmos_tokenizer.token_files import TokenReader, is_token_file


def info(args: Namespace) -> dict[str, Any]:
    """Print what a checkpoint or a token file holds."""
    result = _tokens_info(args.model) if is_token_file(args.model) else _model_info(args)
    for name, value in result.items():
        print(f"{name}: {value}")
    return result


def convert(args: Namespace) -> dict[str, Any]:
    """Write a checkpoint in another layout."""
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    convert_checkpoint(
        source_of(args.model), args.output, to=args.to, preset=args.preset, device=args.device, dtype=dtype
    )
    print(f"{args.model} -> {args.output}")
    return {"source": args.model, "to": args.to, "output": args.output}


def _model_info(args: Namespace) -> dict[str, Any]:
    loaded = open_model(args)
    model = loaded.model
    halves = {"encoder": _count(model.encoder), "decoder": _count(model.decoder)}
    return {
        "holds": "model",
        "source": args.model,
        **asdict(model.config),
        "parameters": halves | {"total": sum(halves.values())},
        "dtype": str(model.dtype).removeprefix("torch."),
        "statistics": model.statistics is not None,
        "fingerprint": dict(loaded.fingerprint),
    }


def _tokens_info(path: str) -> dict[str, Any]:
    reader = TokenReader(path)
    for _ in reader.parts():
        pass  # a damaged file is no token file
    tokens = reader.info
    return {
        "holds": "tokens",
        "source": path,
        "kind": reader.kind,
        "token_shape": list(reader.shape),
        "dtype": str(reader.dtype).removeprefix("torch."),
        "frames": tokens.frames,
        "height": tokens.size[0],
        "width": tokens.size[1],
        "rate": None if tokens.rate is None else str(tokens.rate),
        "temporal_compression": tokens.geometry.temporal,
        "spatial_compression": tokens.geometry.spatial,
        "model": tokens.model,
        "fingerprint": dict(tokens.fingerprint),
        "made_from": tokens.source,
        "window": tokens.window,
        "tile": tokens.tile,
    }


def _count(half: nn.Module | None) -> int:
    return 0 if half is None else sum(parameter.numel() for parameter in half.parameters())
