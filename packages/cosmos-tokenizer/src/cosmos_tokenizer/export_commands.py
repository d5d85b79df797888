"""The command ``export``: one half of a tokenizer as a file that runs without this package."""

import time
from argparse import Namespace
from typing import Any, cast

from cosmos_tokenizer.codec_commands import open_model
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.exported import difference
from cosmos_tokenizer.exporting import export as export_model
from cosmos_tokenizer.exporting import need
from cosmos_tokenizer.graphs import Part
from cosmos_tokenizer.inputs import parse_size


def export(args: Namespace) -> dict[str, Any]:
    """Write the files, run them on a random clip beside the model, and say how far they are from it.

    Raises:
        InputError: the model cannot be exported so, or a file does not compute what the model does; it is left to see.
    """
    if args.output.endswith(".onnx"):
        need("onnx", "onnxscript", "onnxruntime")
    size = parse_size(args.size)
    part = cast(Part, args.part)
    model = open_model(args).model
    begun = time.perf_counter()
    paths = export_model(
        model,
        args.output,
        part=part,
        frames=args.frames,
        size=size,
        dynamic=args.dynamic,
        steps=args.step,
    )
    seconds = time.perf_counter() - begun
    geometry = model.geometry
    frames = geometry.frames(4) if args.step else args.frames or 1
    if args.dynamic:  # at another size than the one it was traced at
        size = (size[0] + geometry.spatial, size[1] + 2 * geometry.spatial)
    apart, sound = difference(model, paths, part, frames, size)
    indices = part == "encoder" and model.config.kind == "discrete"
    measure = "share of indices that differ" if indices else "largest difference"
    for path in paths:
        print(f"{args.model} -> {path}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"against the model on a random clip of {frames} frames at {size[0]}x{size[1]}: {measure} {apart:.2g}")
    if not sound:
        raise InputError(
            f"{paths[0]}: does not compute what {args.model} does ({measure} {apart:.2g}); do not use it, and try "
            "another --dtype or the other format"
        )
    return {
        "source": args.model,
        "part": part,
        "outputs": [str(path) for path in paths],
        "bytes": [path.stat().st_size for path in paths],
        "seconds": seconds,
        "checked_on": {"frames": frames, "height": size[0], "width": size[1]},
        "difference": apart,
        "difference_is": measure,
    }
