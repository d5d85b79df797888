"""The command `cosmos-curate shotbench`: F1 of detectors on labelled sets and on splices, beside the published."""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cosmos_curate.errors import InputError
from cosmos_curate.media.reading import decode
from cosmos_curate.shotbench.labels import VIDEOS, Labelled, read_labels
from cosmos_curate.shotbench.protocol import PROTOCOL, Score, findings, score
from cosmos_curate.shotbench.published import PUBLISHED
from cosmos_curate.shotbench.splice import splice
from cosmos_curate.shots.stage import ShotConfig, open_detector


def shotbench(
    labelled: Sequence[Labelled],
    detectors: Sequence[ShotConfig],
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, Score]]:
    """Return each detector's score on each group of videos, and on "all" where there are several groups.

    Args:
        progress: called with a line before each video.

    Raises:
        InputError: no videos, or weights that are not those of their network.
        Unusable: a video does not decode.
    """
    if not labelled or not detectors:
        raise InputError(f"{len(labelled)} videos and {len(detectors)} detectors: give at least one of either")
    out: dict[str, dict[str, Score]] = {}
    for config in detectors:
        detect = open_detector(config)
        scores: dict[str, Score] = {}
        for one in labelled:
            progress(f"{config.detector}: {one.video.name}")
            found = findings(detect(lambda path=one.video: decode(path)))
            scores[one.group] = scores.get(one.group, Score()) + score(one.transitions, found)
        if len(scores) > 1:
            scores["all"] = sum(scores.values(), Score())
        out[config.detector] = scores
    return out


def run_shotbench(args: argparse.Namespace, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Return what the command reports: the protocol, the scores by detector and group, and the published F1.

    Raises:
        InputError: paths without videos or labels, or settings that do not fit.
        Unusable: a video does not decode.
    """
    detectors = [
        ShotConfig(detector=name, weights=args.autoshot_weights if name == "autoshot" else None)
        for name in dict.fromkeys(args.detectors)
    ]
    with tempfile.TemporaryDirectory(prefix="shotbench-") as folder:
        if args.labels:
            labelled = [one for kind, path in args.labels for one in read_labels(kind, Path(path))]
        else:
            progress("splicing")
            labelled = splice(_files(args.videos), Path(folder), count=args.transitions, seed=args.seed)
        scores = shotbench(labelled, detectors, progress)
    transitions: dict[str, int] = {}
    for one in labelled:
        transitions[one.group] = transitions.get(one.group, 0) + len(one.transitions)
    return {
        "protocol": PROTOCOL,
        "truth": "labels" if args.labels else f"splices of seed {args.seed}",
        "videos": len(labelled),
        "transitions": transitions,
        "scores": {d: {group: s.as_dict() for group, s in groups.items()} for d, groups in scores.items()},
        "published_f1": PUBLISHED,
    }


def _files(paths: Sequence[str]) -> list[Path]:
    out: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"no video at {path}")
        out += sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEOS) if path.is_dir() else [path]
    if not out:
        raise InputError(f"no videos in {', '.join(paths)}")
    return out
