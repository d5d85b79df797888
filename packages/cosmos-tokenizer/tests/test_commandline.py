"""What every command does alike: exit codes, one line for bad input, and what stands on which stream."""

import errno
import json
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import whole_file
from cosmos_tokenizer.commandline import Parser, run_command

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a runner of `toy WORDS` with any work behind `go`: exit code, standard output, standard error."""

    def run(work: Callable[[Namespace], dict[str, Any]], words: str) -> tuple[int, str, str]:
        parser = Parser(prog="toy")
        go = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser("go")
        go.add_argument("--number", type=int, default=3)
        go.add_argument("--json", action="store_true")
        return run_command(parser, work, words.split()), *capsys.readouterr()

    return run


def raising(error: BaseException) -> Callable[[Namespace], dict[str, Any]]:
    def work(args: Namespace) -> dict[str, Any]:
        raise error

    return work


def test_json_is_the_last_line_and_names_the_command(call: Call) -> None:
    def work(args: Namespace) -> dict[str, Any]:
        print("a notice", file=sys.stderr)
        return {"number": args.number, "endless": float("inf")}

    code, out, err = call(work, "go --number 7 --json")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "a notice"
    assert json.loads(out.splitlines()[-1]) == {"command": "go", "number": 7, "endless": None}
    assert call(work, "go")[1] == "a notice\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [("", "COMMAND"), ("stop", "stop"), ("go --nubmer 2", "--nubmer"), ("go --num 2", "--num"), ("go --number x", "x")],
)
def test_a_mistake_is_one_line_and_code_2(words: str, named: str, call: Call) -> None:
    code, out, err = call(raising(AssertionError()), words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("toy")
    assert named in err
    assert err.endswith(" --help\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.mp4: two\n  lines"), "toy: a.mp4: two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "out.mp4"), "toy: out.mp4: No space left on device"),
        (OSError("the pipe burst"), "toy: input or output: the pipe burst"),
    ],
)
def test_bad_input_is_one_line_and_code_2(error: Exception, line: str, call: Call) -> None:
    assert call(raising(error), "go --json") == (2, "", f"{line}\n")


def test_an_interrupt_is_one_line_and_the_signals_code(call: Call) -> None:
    assert call(raising(KeyboardInterrupt()), "go") == (130, "", "toy: interrupted; nothing half-written is left\n")


def test_a_reader_that_left_ends_the_command_quietly(call: Call) -> None:
    assert call(raising(BrokenPipeError()), "go") == (1, "", "")


def test_a_fault_of_ours_is_code_1_with_its_traceback(call: Call) -> None:
    code, out, err = call(raising(KeyError("bug")), "go")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.endswith("KeyError: 'bug'\n")


def test_sigterm_unwinds_like_an_interrupt_and_is_as_before_afterwards(call: Call, tmp_path: Path) -> None:
    def work(args: Namespace) -> dict[str, Any]:
        with whole_file(tmp_path / "out") as partial:
            partial.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    before = signal.getsignal(signal.SIGTERM)
    code, _, errors = call(work, "go")
    assert (code, errors) == (143, "toy: interrupted; nothing half-written is left\n")
    assert signal.getsignal(signal.SIGTERM) == before
    assert not list(tmp_path.iterdir())
