"""What every command line of the family does alike: one line for a mistake, and the exit codes.

Exit codes: 0 done, 2 bad input (one line on standard error and nothing else there), 130 interrupted by Ctrl-C and 143
ended by SIGTERM (one line too), 1 anything else. Notices, tables and progress go to standard output; with `--json` its
last line is one JSON object.
"""

import argparse
import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.jsontext import to_json


class Parser(argparse.ArgumentParser):
    """One line for a mistake, as for every other bad input, instead of the usage and a line; no abbreviated options.

    Subcommands are of the same class.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - whatever argparse takes
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def run_command(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], Mapping[str, Any]],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv` (by default the process's), run what it asks for, and return the exit code.

    Args:
        parser: its arguments must come to have `command`, a name, and `json`, a bool.
        run: does the work and returns what `--json` prints behind the command's name. `InputError` and `OSError` are
            bad input. While it runs, standard error is standard output: warnings are notices.
    """
    errors = sys.stderr
    try:
        args = parser.parse_args(argv)
        with contextlib.redirect_stderr(sys.stdout), _terminated_like_interrupted():
            result = run(args)
            if args.json:
                print(to_json({"command": args.command, **result}))
            sys.stdout.flush()
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        return 1  # whoever read the output has left
    except KeyboardInterrupt as stop:
        print(f"{parser.prog}: interrupted; nothing half-written is left", file=errors)
        return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
    except InputError as error:
        line = str(error)
    except OSError as error:
        where = error.filename if error.filename is not None else "input or output"
        line = f"{where}: {error.strerror or error}"
    except Exception as error:
        traceback.print_exception(error, file=errors)
        return 1
    print(" ".join(f"{parser.prog}: {line}".split()), file=errors)
    return 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as the code that it unwinds sees it."""


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does: partial files are removed on the way out."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated
