"""Distributions of clips, kept and dropped: length, resolution, motion, camera, type, and the mix beside its target.

Nothing here draws: a distribution is a title, labels, and counts.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosmos_curate.content.mix import PAPER_TARGET, UNTYPED
from cosmos_curate.schema import CAMERA_MOTIONS, VIDEO_TYPES

COLUMNS = (
    "duration_s",
    "width",
    "height",
    "motion",
    "camera_speed",
    "camera_motion",
    "quality",
    "aesthetic",
    "text_overlay",
    "video_type",
    "repeats",
    "keep",
    "quarantine",
    "drop_rule",
)
"""Columns of the manifest that the distributions look at."""

EDGES = {
    "duration_s": ("Length, seconds", (2, 5, 10, 20, 30, 60)),
    "short_side": ("Resolution, shorter side in pixels", (240, 360, 480, 720, 1080, 2160)),
    "motion": ("Motion in the scene, picture diagonals a second", (0.01, 0.02, 0.05, 0.1, 0.2)),
    "camera_speed": ("Motion of the camera, picture diagonals a second", (0.01, 0.02, 0.05, 0.1, 0.2)),
    "quality": ("Technical quality, higher is better", (20, 40, 60, 80)),
    "aesthetic": ("Aesthetic score, higher is better", (2, 3, 3.5, 4, 5, 6)),
    "text_overlay": ("Text laid over the picture, from 0 to 1", (0.1, 0.25, 0.5, 0.75)),
}


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Counts of clips by label.

    Args:
        name: of the column.
        title: in words, with the unit.
        labels: of the bars, in order.
        kept: clips in the shards.
        dropped: clips that a rule dropped.
        target: share of each label that the mix aims at, from 0 to 1; None without one.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    target: tuple[float, ...] | None = None


def distributions(
    columns: Mapping[str, Sequence[Any]], target: Mapping[str, float] = PAPER_TARGET
) -> list[Distribution]:
    """Return the distributions of a manifest's columns; one without any value is left out, and so are clips put aside.

    Args:
        columns: those that COLUMNS names, one value a clip; None and NaN are in no bar.
        target: share of the mix by type, from 0 to 1.
    """
    usable = [place for place, reason in enumerate(columns["quarantine"]) if reason is None]
    keep = [columns["keep"][place] for place in usable]
    values = {name: [columns[name][place] for place in usable] for name in COLUMNS}
    sides = zip(values["width"], values["height"], strict=True)
    values["short_side"] = [None if w is None or h is None else min(w, h) for w, h in sides]
    found = [_histogram(name, title, edges, values[name], keep) for name, (title, edges) in EDGES.items()]
    found.insert(4, _named("camera_motion", "Main motion of the camera", CAMERA_MOTIONS, values["camera_motion"], keep))
    found.append(_named("video_type", "Type of video", VIDEO_TYPES, values["video_type"], keep))
    repeats = Counter[str]()
    for kind, times in zip(values["video_type"], values["repeats"], strict=True):
        repeats[kind or UNTYPED] += times or 0
    found.append(
        Distribution(
            name="mix",
            title="Mix of types in the shards",
            labels=VIDEO_TYPES,
            kept=tuple(repeats[kind] for kind in VIDEO_TYPES),
            dropped=(0,) * len(VIDEO_TYPES),
            target=tuple(target.get(kind, 0.0) for kind in VIDEO_TYPES),
        )
    )
    return [one for one in found if sum(one.kept) + sum(one.dropped)]


def _histogram(
    name: str, title: str, edges: Sequence[float | int], values: Sequence[Any], keep: Sequence[bool]
) -> Distribution:
    inner = [f"{low:g} to {high:g}" for low, high in zip(edges, edges[1:], strict=False)]
    labels = (f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and more")
    places = [None if value is None or value != value else bisect_right(edges, value) for value in values]
    return _counted(name, title, labels, [None if p is None else labels[p] for p in places], keep)


def _named(name: str, title: str, labels: Sequence[str], values: Sequence[Any], keep: Sequence[bool]) -> Distribution:
    return _counted(name, title, tuple(label for label in labels if label in values), values, keep)


def _counted(
    name: str, title: str, labels: tuple[str, ...], values: Sequence[Any], keep: Sequence[bool]
) -> Distribution:
    kept = Counter(value for value, stays in zip(values, keep, strict=True) if stays)
    dropped = Counter(value for value, stays in zip(values, keep, strict=True) if not stays)
    return Distribution(
        name=name,
        title=title,
        labels=labels,
        kept=tuple(kept[label] for label in labels),
        dropped=tuple(dropped[label] for label in labels),
    )
