"""The commands `run` and `select`: options to settings, and the report in words."""

import argparse
from collections.abc import Mapping
from typing import Any

from cosmos_curate.commandline import Failed, one_line

DETECTORS = ("transnetv2", "content", "adaptive", "autoshot", "panda", "stride")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    parser.add_argument("folder", metavar="FOLDER", help="folder or address (s3://, gs://) of the videos")
    parser.add_argument("out", metavar="OUT", help="folder or address to fill; the same one again goes on from there")
    parser.add_argument("--executor", choices=("local", "ray"), help="where stages run (default local)")
    parser.add_argument("--cpus", type=_count, help="cores for the local executor (default: all of this process)")
    parser.add_argument("--detector", choices=DETECTORS, help="what finds the shots (default transnetv2)")
    parser.add_argument("--detector-weights", metavar="PATH", help="of AutoShot, which ships none")
    parser.add_argument("--captioner", choices=("template", "openai", "transformers"), help="default template")
    parser.add_argument("--caption-model", metavar="NAME", help="at the endpoint; or a folder or hub id")
    parser.add_argument("--caption-url", metavar="URL", help="of an OpenAI-compatible endpoint, up to /v1")
    parser.add_argument("--caption-window", type=_count, metavar="FRAMES", help="a caption for each so many frames")
    parser.add_argument("--dover", metavar="PATH", help="ONNX file of DOVER, to judge quality in place of BRISQUE")
    parser.add_argument("--aesthetic-model", metavar="PATH", help="ONNX file of an aesthetic scorer")
    parser.add_argument("--attempts", type=_count, help="tries of each stage before an item is put aside (default 3)")
    parser.add_argument("--retry", action="store_true", help="try again what an earlier run put aside")
    parser.add_argument("--max-quarantine", type=float, metavar="SHARE", help="exit 1 above this share (default 1)")
    parser.add_argument("--metrics-port", type=_count, help="serve Prometheus metrics there while it runs")
    _add_selection(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, such as --set transcode.quality=20; values are JSON",
    )


def add_select_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `select`."""
    parser.add_argument("out", metavar="OUT", help="output of a finished run")
    _add_selection(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of select or shards; values are JSON",
    )


def run_folder(args: argparse.Namespace) -> Mapping[str, Any]:
    """Curate a folder.

    Raises:
        Failed: nothing was usable, or more was put aside than is allowed.
    """
    from cosmos_curate.config import RunConfig
    from cosmos_curate.options import configured, selected
    from cosmos_curate.pipeline import run

    config = selected(configured(RunConfig(folder=args.folder, out=args.out), args), args)
    report = run(config, say=_say)
    _tell(report, config.out)
    total, aside = report["clips"], report["quarantined"]
    if total == aside:
        raise Failed(f"nothing in {config.folder} was usable; {config.out}/manifest.parquet says why", report)
    if aside / total > config.max_quarantine:
        line = f"{aside} of {total} were put aside, above the limit of {config.max_quarantine:g}"
        raise Failed(f"{line}; {config.out}/manifest.parquet says why", report)
    return report


def select_again(args: argparse.Namespace) -> Mapping[str, Any]:
    """Decide anew on a finished run."""
    from cosmos_curate.options import selected, with_lines
    from cosmos_curate.select_again import select

    report = select(args.out, lambda config: selected(with_lines(config, args.set), args), say=_say)
    _tell(report, args.out)
    return report


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="NAME: TEST",
        help="change or add a rule, such as --rule 'length: duration_s >= 3' or --rule 'static: off'",
    )
    parser.add_argument("--eps", type=float, help="clips whose cosine is above 1 - EPS are duplicates")
    parser.add_argument("--no-dedup", action="store_true", help="keep near-duplicates; files of equal bytes go still")
    parser.add_argument("--mix", action="store_true", help="sample towards the paper's mix of video types")
    parser.add_argument("--layout", choices=("webdataset", "cosmos"), help="of the shards (default webdataset)")
    parser.add_argument("--lance", action="store_true", help="the manifest as a Lance dataset too")
    parser.add_argument(
        "--text-encoder", metavar="PATH", help="T5 encoder for t5_xxl of the Cosmos layout: path or hub id"
    )


def _tell(report: Mapping[str, Any], out: str) -> None:
    for step in report["funnel"]:
        gone = f", {step['dropped']} dropped" if step.get("dropped") else ""
        print(f"{step['step']:>12}: {step['clips']} clips, {step['hours']:.4f} h{gone}")
    aside = f", {report['quarantined']} put aside" if report["quarantined"] else ""
    print(f"{report['kept']} of {report['clips']} clips are in {report['shards']} shards below {out}/shards{aside}")


def _say(line: str) -> None:
    print(one_line(line), flush=True)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)
