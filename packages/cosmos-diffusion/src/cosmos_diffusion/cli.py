"""The command line: `cosmos-diffusion bench | convert | embed | generate | info`.

Exit codes and streams are those of `cosmos_tokenizer.commandline`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from cosmos_diffusion._version import __version__
from cosmos_diffusion.bench_command import add_bench_arguments
from cosmos_diffusion.embed_command import add_embed_arguments
from cosmos_diffusion.generate_arguments import add_generate_arguments
from cosmos_diffusion.out_of_memory import is_out_of_memory
from cosmos_tokenizer import InputError
from cosmos_tokenizer.commandline import Parser, run_command

_SOURCE = "name of shipped weights, file, folder of a transformer or a pipeline, or hub id"

# Command to the module whose function of that name runs it: imported then, for most of them bring torch.
_MODULES = {
    "bench": "bench_command",
    "convert": "checkpoint_commands",
    "embed": "embed_command",
    "generate": "generate_command",
    "info": "checkpoint_commands",
}
# What to do where a command does not fit.
_LESS_MEMORY = {
    "bench": "use --dtype bfloat16, fewer or smaller --frames, or a smaller network",
    "convert": "leave --dtype out, and the weights go from file to file",
    "embed": "use --weights int8, a smaller --batch, or another --device",
    "generate": "use --offload components or blocks, --dtype bfloat16, --weights int8, or another --device",
    "info": "free some: it reads one tensor at a time",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run_command(build_parser(), _run, argv)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="cosmos-diffusion", description="Diffusion world models: text or video to what happens next.")
    parser.add_argument("--version", action="version", version=__version__, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_bench_arguments(_command(commands, "bench", "how long a network takes on this machine"))
    _add_convert(commands)
    add_embed_arguments(_command(commands, "embed", "text embeddings of a folder of captions"))
    add_generate_arguments(_command(commands, "generate", "text, a video or a picture to a video of what happens"))
    _add_info(commands)
    return parser


def _add_convert(commands: "argparse._SubParsersAction[Parser]") -> None:
    convert = _command(commands, "convert", "a checkpoint to another layout")
    _add_source(convert)
    convert.add_argument("output", metavar="OUTPUT", help="file or, for diffusers, folder to write")
    layouts = ("ours", "native", "diffusers")
    convert.add_argument("--to", default=layouts[0], choices=layouts, help="layout to write (default ours)")
    convert.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights written (default: as they are)"
    )


def _add_info(commands: "argparse._SubParsersAction[Parser]") -> None:
    _add_source(_command(commands, "info", "what a checkpoint holds"))


def _add_source(command: Parser) -> None:
    command.add_argument("source", metavar="SOURCE", help=f"checkpoint: {_SOURCE}")
    command.add_argument(
        "--config",
        metavar="CONFIG",
        help="name of a preset, or JSON file: for what a native or diffusers checkpoint cannot say of its network",
    )


def _command(commands: "argparse._SubParsersAction[Parser]", name: str, does: str) -> Parser:
    command = commands.add_parser(name, help=does, description=does)
    command.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return command


def _run(args: argparse.Namespace) -> dict[str, Any]:
    try:
        return getattr(importlib.import_module(f"cosmos_diffusion.{_MODULES[args.command]}"), args.command)(args)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise InputError(f"out of memory; {_LESS_MEMORY[args.command]}") from error
        raise


if __name__ == "__main__":
    sys.exit(main())
