"""The command line: `cosmos-tokenizer encode | decode | reconstruct | evaluate | convert | export | bench | info`.

Exit codes and streams are those of `cosmos_tokenizer.commandline`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from cosmos_tokenizer._version import __version__
from cosmos_tokenizer.commandline import Parser, run_command
from cosmos_tokenizer.errors import InputError

DEFAULT_MODEL = "nano-cv4x8x8"

_SOURCE = "name of shipped weights, file or folder in any layout, ENCODER,DECODER files, or hub id"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run_command(build_parser(), _run, argv)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="cosmos-tokenizer", description="Videos and pictures to tokens and back.")
    parser.add_argument("--version", action="version", version=__version__, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    clips = "video or picture; several, a quoted glob or a folder need a folder as OUTPUT"

    encode = _command(commands, "encode", "clips to token files")
    encode.add_argument("inputs", nargs="+", metavar="INPUT", help=clips)
    encode.add_argument("output", metavar="OUTPUT", help="token file (.safetensors), or a folder")
    shards = encode.add_argument_group("shards for training: INPUT is one folder, with all folders in it")
    shards.add_argument(
        "--shards", action="store_true", help="write webdataset shards; run again to finish a broken run"
    )
    shards.add_argument("--workers", type=int, metavar="N", help="processes, each on one core (default 1)")
    shards.add_argument("--per-shard", type=int, metavar="N", help="clips of a shard at most (default 100)")
    shards.add_argument("--latents", choices=("float16", "float32"), help="type of stored latents (default float16)")

    decode = _command(
        commands, "decode", "token files to clips, at their own size, length and frame rate; sound is dropped"
    )
    decode.set_defaults(model=None)  # the shipped model that the tokens name
    decode.add_argument("inputs", nargs="+", metavar="TOKENS", help="token file; several, a quoted glob or a folder")
    decode.add_argument("output", metavar="OUTPUT", help=".mp4 (.png or .jpg for a picture's tokens), or a folder")

    reconstruct = _command(commands, "reconstruct", "clips through the tokenizer and back; sound is dropped")
    reconstruct.add_argument("inputs", nargs="+", metavar="INPUT", help=clips)
    reconstruct.add_argument("output", metavar="OUTPUT", help=".mp4 (.png or .jpg for a picture), or a folder")

    evaluate = _command(commands, "evaluate", "PSNR, SSIM, compression, use of codes, time and memory of each clip")
    evaluate.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="videos or pictures, quoted globs, folders, folders of folders (TokenBench), a .txt list of names in "
        "them, or DAVIS's folder (its sequences of pictures are clips)",
    )
    evaluate.add_argument("--out", metavar="FOLDER", help="write metrics.json and worst.png there")
    networks = evaluate.add_argument_group("networks from TorchScript files, whose own code runs")
    networks.add_argument("--fid-network", metavar="PATH", help="rFID of the pictures: B 3 299 299 in 0..255 to B D")
    networks.add_argument("--fvd-network", metavar="PATH", help="rFVD of the videos: B 3 T 224 224 in [-1, 1] to B D")
    networks.add_argument("--lpips-network", metavar="PATH", help="LPIPS per frame: two of B 3 H W in [-1, 1] to B")

    for command in (encode, decode, reconstruct, evaluate):
        command.add_argument(
            "--exact",
            action="store_true",
            help="let temporal attention look back on the whole of a long clip; memory then grows with its length "
            "(default: on 16 latent frames, which is exact for clips that have no more)",
        )
        command.add_argument(
            "--tile",
            type=int,
            metavar="N",
            help="take large frames in tiles of N pixels a side that overlap by N/4 and are blended: less memory, "
            "nearly the same result (default: whole frames)",
        )

    convert = _command(commands, "convert", "a checkpoint to another layout", source="checkpoint")
    convert.add_argument("output", metavar="OUTPUT", help="file or folder to write")
    layouts = ("ours", "native", "diffusers")
    convert.add_argument("--to", default=layouts[0], choices=layouts, help="layout to write (default ours)")

    export = _command(commands, "export", "one half as a torch.export or ONNX file", source="checkpoint")
    export.add_argument("output", metavar="OUTPUT", help="file to write: .pt2 (torch.export) or .onnx")
    export.add_argument("--part", required=True, choices=("encoder", "decoder"), help="half to export")
    export.add_argument("--frames", type=int, metavar="N", help="of the clip, 1 + temporal compression * n")
    export.add_argument("--size", default="256x256", metavar="HxW", help="of the clip, whole cells (default 256x256)")
    export.add_argument("--dynamic", action="store_true", help="take clips of any height and width, not of one size")
    export.add_argument(
        "--step",
        action="store_true",
        help="two files for a clip without end, OUTPUT with .start and .next before its suffix: one latent frame at a "
        "time, with what it remembers of 16 latent frames going in and out",
    )

    bench = _command(commands, "bench", "time and memory here, trained, folded and streamed", source="checkpoint")
    bench.add_argument("--frames", type=int, default=17, metavar="N", help="of the random clip (default 17)")
    bench.add_argument("--size", default="256x256", metavar="HxW", help="of the random clip (default 256x256)")
    bench.add_argument("--repeat", type=int, default=3, metavar="N", help="runs that count; the best is printed")

    _command(commands, "info", "what a checkpoint or a token file holds", source="checkpoint or token file")
    return parser


def _command(
    commands: "argparse._SubParsersAction[Parser]", name: str, does: str, *, source: str | None = None
) -> Parser:
    command = commands.add_parser(name, help=does, description=does)
    if source is None:
        default = "that of the tokens, if it is a shipped one" if name == "decode" else DEFAULT_MODEL
        command.add_argument("--model", default=DEFAULT_MODEL, help=f"{_SOURCE} (default: {default})")
    else:
        command.add_argument("model", metavar="SOURCE", help=f"{source}: {_SOURCE}")
    command.add_argument("--preset", help="name of the network, for what a foreign checkpoint's shapes cannot say")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    command.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights (default: as they are stored)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return command


def _run(args: argparse.Namespace) -> dict[str, Any]:
    modules = {
        "convert": "checkpoint_commands",
        "info": "checkpoint_commands",
        "export": "export_commands",
        "bench": "bench_commands",
    }
    module = modules.get(args.command, "codec_commands")
    if args.command == "encode":
        if args.shards:
            module = "shard_commands"
        elif (args.workers, args.per_shard, args.latents) != (None, None, None):
            raise InputError("--workers, --per-shard and --latents are of shards; add --shards, or leave them out")
    try:
        return getattr(importlib.import_module(f"cosmos_tokenizer.{module}"), args.command)(args)
    except (MemoryError, RuntimeError) as error:
        # On the CPU, torch has no class of its own for it.
        full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
        if full or "can't allocate memory" in str(error):
            line = "out of memory; use a smaller clip, --tile 512, --dtype bfloat16, or another --device"
            raise InputError(line) from error
        raise


if __name__ == "__main__":
    sys.exit(main())
