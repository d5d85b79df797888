"""What every command does alike: one line for a mistake, exit codes, and one JSON object as the last line.

Exit codes: 0 done, 1 failure, 2 bad input, 130 and 143 ended by a signal. Notices and progress go to standard output;
standard error carries the error alone. What an output's encoding lacks is written as an escape.
"""

import argparse
import contextlib
import io
import json
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

from cosmos_curate.engine.storage import FULL, OutputError
from cosmos_curate.errors import InputError

Run = Callable[[argparse.Namespace], Mapping[str, Any]]


class Failed(Exception):
    """The work was done and its outcome is a failure, such as too much quarantine: exit code 1.

    Args:
        line: what is wrong.
        result: what `--json` prints all the same.
    """

    def __init__(self, line: str, result: Mapping[str, Any]) -> None:
        super().__init__(line)
        self.result = result


class Parser(argparse.ArgumentParser):
    """A mistake is one line; options are not abbreviated."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - whatever argparse takes
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds the stack as Ctrl-C does."""


def one_line(text: str) -> str:
    """Return text without line breaks, and with escapes for what would move a terminal's cursor."""
    plain = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, call what the chosen command set as `run`, and return the exit code."""
    errors = sys.stderr
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    def tell(args: argparse.Namespace, result: Mapping[str, Any]) -> None:
        if args.json:
            print(json.dumps({"command": args.command, **result}, ensure_ascii=False))
        sys.stdout.flush()

    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    code, line = 2, ""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(sys.stdout))
        with contextlib.suppress(ValueError):  # only the main thread may handle signals
            before = signal.signal(signal.SIGTERM, terminate)
            stack.callback(signal.signal, signal.SIGTERM, before)
        try:
            tell(args, args.run(args))
            return 0
        except Failed as failed:
            tell(args, failed.result)
            code, line = 1, str(failed)
        except InputError as error:
            line = str(error)
        except OutputError as error:
            code, line = 1, str(error)
        except BrokenPipeError:
            return 1  # whoever read the output has left
        except KeyboardInterrupt as stop:
            code = 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
            line = "interrupted; what is done is kept, and the same command goes on from there"
        except OSError as error:
            code = 1 if error.errno in FULL else 2
            line = f"{error.filename or 'input or output'}: {error.strerror or error}"
        except Exception as error:
            traceback.print_exception(error, file=errors)
            return 1
    print(one_line(f"{parser.prog}: {line}"), file=errors)
    return code
