"""The command `shotbench`: its options, and its table beside the published one (arXiv 2501.03575, table 1)."""

import argparse
from collections.abc import Mapping
from typing import Any

SETS = ("rai", "bbc", "shot", "clipshots")
DETECTORS = ("transnetv2", "content", "adaptive", "autoshot", "panda", "stride")


def add_shotbench_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--videos", nargs="+", metavar="PATH", help="files or folders of footage to splice from")
    truth.add_argument(
        "--labels",
        nargs=2,
        action="append",
        metavar=("KIND", "PATH"),
        help=f"a labelled set, {', '.join(SETS)}, and the folder of its videos and labels; may be given again",
    )
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=["transnetv2", "content"])
    parser.add_argument("--autoshot-weights", metavar="PATH", help="the authors' checkpoint, for detector autoshot")
    parser.add_argument("--transitions", type=int, default=20, help="of each kind in the splices (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the splices (default 0)")


def run_bench(args: argparse.Namespace) -> Mapping[str, Any]:
    """Score the detectors, print the table, and return it as JSON takes it.

    Raises:
        InputError: paths without videos or labels, or settings that do not fit.
    """
    from cosmos_curate.errors import InputError, Unusable
    from cosmos_curate.shotbench.bench import run_shotbench

    try:
        found = run_shotbench(args, lambda line: print(line, flush=True))
    except Unusable as error:
        raise InputError(f"{error}; leave that video out") from error
    print(found["protocol"])
    print(f"{'detector':>12} {'group':>14} {'F1':>6} {'precision':>10} {'recall':>7} {'published F1':>13}")
    for detector, groups in found["scores"].items():
        for group, score in groups.items():
            published = found["published_f1"].get(group, {}).get(detector)
            beside = "" if published is None else f"{published:13.3f}"
            shares = f"{score['f1']:6.3f} {score['precision']:10.3f} {score['recall']:7.3f}"
            print(f"{detector:>12} {group:>14} {shares} {beside}")
    return found
