"""The command `stats`: a page about an output folder, and its figures."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cosmos_curate.errors import InputError


def add_stats_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stats`."""
    parser.add_argument("out", metavar="OUT", help="output of a finished run")
    parser.add_argument("--page", type=Path, help="where to write the page (default OUT/index.html)")
    parser.add_argument(
        "--thumbnails",
        type=int,
        default=12,
        help="clips shown of those kept, and of those that each rule dropped (default 12)",
    )


def write_stats(args: argparse.Namespace) -> Mapping[str, Any]:
    """Write the page and return what it shows.

    Raises:
        InputError: no finished run there; a number of thumbnails below 0.
    """
    from cosmos_curate.engine.storage import Store
    from cosmos_curate.engine.workshop import scratch
    from cosmos_curate.manifest import read_manifest
    from cosmos_curate.pipeline import REPORT
    from cosmos_curate.stats.distributions import COLUMNS, distributions
    from cosmos_curate.stats.page import page

    if args.thumbnails < 0:
        raise InputError(f"--thumbnails {args.thumbnails} must be 0 or more")
    store = Store(args.out)
    table = read_manifest(store)
    try:
        report = json.loads(store.read_bytes(REPORT))
    except FileNotFoundError:
        raise InputError(f"{args.out}: holds no {REPORT}; run again to make it") from None
    with scratch() as work:
        text = page(table, report, store, work=str(work), most=args.thumbnails).encode()
    if args.page is None:
        store.write_whole("index.html", text)
    else:
        Store(args.page.resolve().parent).write_whole(args.page.name, text)
    where = args.page or f"{args.out.rstrip('/')}/index.html"
    for step in report["funnel"]:
        print(f"{step['step']:>12}: {step['clips']} clips, {step['hours']:.4f} h")
    print(f"the page is {where}")
    found = distributions({name: table[name].to_pylist() for name in COLUMNS})
    return {"page": str(where), "funnel": report["funnel"], "distributions": [asdict(one) for one in found]}
