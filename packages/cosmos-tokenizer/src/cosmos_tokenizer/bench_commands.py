"""The command `bench`: what a checkpoint costs on this machine, in each of its forms."""

from argparse import Namespace
from typing import Any

import torch

from cosmos_tokenizer.bench import bench as measure_forms
from cosmos_tokenizer.bench import table
from cosmos_tokenizer.codec_commands import open_model
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.inputs import parse_size


def bench(args: Namespace) -> dict[str, Any]:
    """Time encode and decode of a random clip and print the table.

    Raises:
        InputError: a number is no count, or the checkpoint holds one half only.
    """
    size = parse_size(args.size)
    for name in ("frames", "repeat"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}: give at least 1")
    model = open_model(args).model
    if model.encoder is None or model.decoder is None:
        raise InputError(f"{args.model}: holds one half only; bench takes an encoder and its decoder together")
    rows = measure_forms(model, frames=args.frames, size=size, repeat=args.repeat)
    frames = args.frames if model.config.media == "video" else 1
    where = {
        "source": args.model,
        "frames": frames,
        "height": size[0],
        "width": size[1],
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device),
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    print(f"{args.model}: {frames} frames of {size[0]}x{size[1]}, {where['dtype']} on {where['device']}")
    print(table(rows))
    return where | {"rows": rows}
