"""The command line: `cosmos-tokenizer encode | decode | reconstruct | evaluate | convert | info`.

Exit codes: 0 done, 2 bad input (one line on standard error and nothing else there), 1 anything else. Notices, tables
and progress go to standard output; with `--json` its last line is one JSON object.
"""

import argparse
import contextlib
import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

DEFAULT_MODEL = "nano-cv4x8x8"

_SOURCE = "name of shipped weights, file or folder in any layout, ENCODER,DECODER files, or hub id"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    errors = sys.stderr
    try:
        args = build_parser().parse_args(argv)
        with contextlib.redirect_stderr(sys.stdout):  # warnings and libraries' own progress are notices
            return _run(args)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        return 1  # whoever read the output has left
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is left", file=errors)
        return 1
    except Exception as error:
        line = _bad_input(error)
        if line is None:
            traceback.print_exception(error, file=errors)
            return 1
        print(" ".join(f"cosmos-tokenizer: {line}".split()), file=errors)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(prog="cosmos-tokenizer", description="Videos and pictures to tokens and back.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    clips = "video or picture; several, a quoted glob or a folder need a folder as OUTPUT"

    encode = _command(commands, "encode", "clips to token files")
    encode.add_argument("inputs", nargs="+", metavar="INPUT", help=clips)
    encode.add_argument("output", metavar="OUTPUT", help="token file (.safetensors), or a folder")

    decode = _command(commands, "decode", "token files to clips, at their own size, length and frame rate")
    decode.set_defaults(model=None)  # the shipped model that the tokens name
    decode.add_argument("inputs", nargs="+", metavar="TOKENS", help="token file; several, a quoted glob or a folder")
    decode.add_argument("output", metavar="OUTPUT", help=".mp4 (.png or .jpg for a picture's tokens), or a folder")

    reconstruct = _command(commands, "reconstruct", "clips through the tokenizer and back")
    reconstruct.add_argument("inputs", nargs="+", metavar="INPUT", help=clips)
    reconstruct.add_argument("output", metavar="OUTPUT", help=".mp4 (.png or .jpg for a picture), or a folder")

    evaluate = _command(commands, "evaluate", "PSNR, SSIM, compression, time and memory of each clip")
    evaluate.add_argument("inputs", nargs="+", metavar="INPUT", help="videos or pictures, quoted globs, folders")
    evaluate.add_argument("--out", metavar="FOLDER", help="write metrics.json and worst.png there")

    convert = _command(commands, "convert", "a checkpoint to another layout", source="checkpoint")
    convert.add_argument("output", metavar="OUTPUT", help="file or folder to write")
    layouts = ("ours", "native", "diffusers")
    convert.add_argument("--to", default=layouts[0], choices=layouts, help="layout to write (default ours)")

    _command(commands, "info", "what a checkpoint or a token file holds", source="checkpoint or token file")
    return parser


def _command(
    commands: "argparse._SubParsersAction[_Parser]", name: str, does: str, *, source: str | None = None
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=does, description=does, allow_abbrev=False)
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


def _run(args: argparse.Namespace) -> int:
    module = "checkpoint_commands" if args.command in ("convert", "info") else "codec_commands"
    result = getattr(importlib.import_module(f"cosmos_tokenizer.{module}"), args.command)(args)
    if args.json:
        from cosmos_tokenizer.jsontext import to_json

        print(to_json({"command": args.command, **result}))
    sys.stdout.flush()
    return 0


def _bad_input(error: Exception) -> str | None:
    """Return the one line for an error that the user's input or machine caused, None for one of ours."""
    from cosmos_tokenizer.errors import InputError

    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        where = error.filename if error.filename is not None else "input or output"
        return f"{where}: {error.strerror or error}"
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return "out of memory; use a smaller or shorter clip, --dtype bfloat16, or another --device"
    return None


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, as for every other bad input, instead of the usage and a line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from cosmos_tokenizer._version import __version__

        print(__version__)
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
