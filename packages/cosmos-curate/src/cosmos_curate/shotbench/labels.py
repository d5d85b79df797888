"""Labels of RAI, BBC Planet Earth, SHOT and ClipShots, in the files that their authors share.

RAI and BBC have a text for each video, a line for each shot: its first and last frame. SHOT has the same for its test
set, pickled by video; and one text for all videos with the two frames of each transition. ClipShots has JSON, again
with the two frames of each transition; of those the comparison takes the midpoint.
"""

import io
import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_curate.errors import InputError
from cosmos_curate.shotbench.protocol import Transition

VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A video, the group that its score counts for, and its transitions in order."""

    video: Path
    group: str
    transitions: list[Transition]


def read_labels(kind: str, path: Path) -> list[Labelled]:
    """Return the labelled videos of one set.

    Args:
        kind: rai, bbc, shot or clipshots.
        path: the folder with both videos and labels, at any depth; for shot and clipshots also the file of labels,
            with the videos below its folder. Videos without labels are left out, and labels without a video.

    Raises:
        InputError: an unknown kind, no labels, labels that do not parse, or no video that they are of.
    """
    if kind not in _READERS:
        raise InputError(f"labels are of kind {kind!r}: choose one of {', '.join(_READERS)}")
    if not path.exists():
        raise InputError(f"no labels at {path}")
    folder = path if path.is_dir() else path.parent
    videos = sorted(v for v in folder.rglob("*") if v.suffix.lower() in VIDEOS)
    found = [
        Labelled(video=video, group=kind, transitions=transitions)
        for video, transitions in _READERS[kind](path, videos).items()
    ]
    if not found:
        raise InputError(f"no video below {folder} has labels of {kind}")
    return found


def shots_text(text: str, where: str) -> list[Transition]:
    """Return the transitions between shots given as lines of first and last frame, the last included."""
    try:
        rows = [tuple(int(float(word)) for word in line.replace(",", " ").split()) for line in text.splitlines()]
        ends = [(first, last) for first, last in filter(None, rows)]
    except ValueError as error:
        raise InputError(f"{where} is no list of shots, a first and a last frame a line: {error}") from error
    return _between(ends)


def _between(ends: list[tuple[int, int]]) -> list[Transition]:
    return [Transition(one[1], other[0]) for one, other in zip(ends[:-1], ends[1:], strict=True)]


def shot_list(text: str) -> dict[str, list[Transition]]:
    """Return SHOT's transitions by video from kuaishou_v2.txt, whose pairs of frames are typed by hand.

    Any sign between two numbers parts them; a pair whose second frame is not behind the first is left out.
    """
    out: dict[str, list[Transition]] = {}
    pairs: list[Transition] = []
    for line in text.splitlines():
        name = re.match(r"\s*(\S+)\.mp4\b", line)
        if name:
            pairs = out.setdefault(name[1], [])
        elif (frames := re.fullmatch(r"\D*(\d+)\D+(\d+)\D*", line)) and int(frames[1]) < int(frames[2]):
            pairs.append(Transition(int(frames[1]), int(frames[2])))
    return {name: sorted(pairs) for name, pairs in out.items()}


class _Arrays(pickle.Unpickler):
    """Unpickles arrays of numbers and nothing else: a pickle may otherwise run any program."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as the base class has it
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.ndarray(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"holds {module}.{name}, not arrays alone")


def shot_pickle(data: bytes, where: str) -> dict[str, list[Transition]]:
    """Return SHOT's transitions by video from gt_scenes_dict_baseline_v2.pickle: the test set of the comparison."""
    try:
        held = _Arrays(io.BytesIO(data)).load()
        return {name: _between([(int(a), int(b)) for a, b in shots]) for name, shots in held.items()}
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise InputError(f"{where} is no pickle of shots by video: {error}") from error


def clipshots_json(text: str, where: str) -> dict[str, list[Transition]]:
    """Return ClipShots' transitions by file name, each as the cut at its midpoint."""
    try:
        held = json.loads(text)
        middles = {n: sorted((int(a) + int(b)) // 2 for a, b in v["transitions"]) for n, v in held.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{where} is no JSON of transitions by video: {error}") from error
    return {name: [Transition(middle, middle + 1) for middle in cuts] for name, cuts in middles.items()}


def _rai(path: Path, videos: list[Path]) -> dict[Path, list[Transition]]:
    texts = {t.stem.removesuffix("_gt"): t for t in sorted(path.rglob("*.txt"))}
    return {v: shots_text(texts[v.stem].read_text(), texts[v.stem].name) for v in videos if v.stem in texts}


def _bbc(path: Path, videos: list[Path]) -> dict[Path, list[Transition]]:
    texts = [t for t in sorted(path.rglob("*.txt")) if "scenes" not in t.parts and re.search(r"\d", t.stem)]
    episodes = {_number(t): t for t in texts}
    return {
        v: shots_text(episodes[_number(v)].read_text(), episodes[_number(v)].name)
        for v in videos
        if _number(v) in episodes
    }


def _number(path: Path) -> int | None:
    digits = re.search(r"\d+", path.stem)
    return int(digits[0]) if digits else None


def _shot(path: Path, videos: list[Path]) -> dict[Path, list[Transition]]:
    pickles = sorted(path.rglob("gt_scenes_dict*.pickle")) if path.is_dir() else [path]
    lists = sorted(path.rglob("kuaishou*.txt")) if path.is_dir() else [path]
    if pickles and pickles[0].suffix == ".pickle":
        held = shot_pickle(pickles[0].read_bytes(), pickles[0].name)
    elif lists:
        held = shot_list(lists[0].read_text())
    else:
        return _rai(path, videos)
    return {v: held[v.stem] for v in videos if v.stem in held}


def _clipshots(path: Path, videos: list[Path]) -> dict[Path, list[Transition]]:
    held: dict[str, list[Transition]] = {}
    for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
        held |= clipshots_json(file.read_text(), file.name)
    return {v: held[v.name] for v in videos if v.name in held}


_READERS: Mapping[str, Callable[[Path, list[Path]], dict[Path, list[Transition]]]] = {
    "rai": _rai,
    "bbc": _bbc,
    "shot": _shot,
    "clipshots": _clipshots,
}
KINDS = tuple(_READERS)
