"""The command line: `cosmos-curate run | select | stats | search | shotbench | models`.

Exit codes and streams are those of `cosmos_curate.commandline`.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cosmos_curate._version import __version__
from cosmos_curate.commandline import Parser, run_command
from cosmos_curate.models.commands import add_models_arguments, run_models
from cosmos_curate.run_command import add_run_arguments, add_select_arguments, run_folder, select_again
from cosmos_curate.search.command import add_search_arguments, run_search
from cosmos_curate.shotbench.command import add_shotbench_arguments, run_bench
from cosmos_curate.stats_command import add_stats_arguments, write_stats

Run = Callable[[argparse.Namespace], Mapping[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run_command(build_parser(), argv)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="cosmos-curate", description="Long videos to captioned, deduplicated clips in shards.")
    parser.add_argument("--version", action="version", version=__version__, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_run_arguments(
        _command(commands, "run", run_folder, "a folder of videos to training shards; goes on where it stopped")
    )
    add_select_arguments(_command(commands, "select", select_again, "other rules on a finished run, without inference"))
    add_stats_arguments(
        _command(commands, "stats", write_stats, "funnel, distributions and thumbnails, as one HTML page")
    )
    add_search_arguments(_command(commands, "search", run_search, "clips near a clip, or with words in their captions"))
    add_shotbench_arguments(_command(commands, "shotbench", run_bench, "F1 of shot detectors, beside the published"))
    add_models_arguments(_command(commands, "models", run_models, "list and export models; train heads"))
    return parser


def _command(commands: "argparse._SubParsersAction[Parser]", name: str, run: Run, does: str) -> Parser:
    command = commands.add_parser(name, help=does, description=does)
    command.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    raise SystemExit(main())
