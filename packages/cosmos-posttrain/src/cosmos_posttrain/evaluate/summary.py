"""Figures of each method per scene and in total, with intervals over clips, and whether the model beats stillness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cosmos_posttrain.evaluate.physics import COPY, MODEL, Row

TOTAL = "total"
MOVING = 0.1
"""Mean weight of a scene's objects and frames from which it is a moving one: by masks, whatever its name."""
RESAMPLES, LEVEL = 2000, 0.95

Columns = Mapping[str, np.ndarray]
"""By name, a figure of each clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A value and its bootstrap interval: percentiles of `RESAMPLES` draws of as many clips, with replacement.

    NaN where nothing moves or no object is seen.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All methods at one number of conditioning frames."""

    given: int
    clips: int
    figures: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    """By scene (and `TOTAL`), method, and name: psnr, ssim, iou, motion_iou and error_ratio."""
    moving: tuple[str, ...]
    """Scenes of at least `MOVING`."""
    better_iou: tuple[str, ...]
    """Moving scenes in which the model has a higher motion-weighted IoU than the last frame held still."""
    better_error: tuple[str, ...]
    """Moving scenes in which its error ratio is below 1."""
    gain: Figure
    """Of the model in motion-weighted IoU over the last frame held still, in total; clips are drawn in pairs."""


def summarise(rows: Sequence[Row], given: int) -> Summary:
    """Put together the rows with that many conditioning frames; of several seeds, a clip's figures are the mean."""
    rows = [row for row in rows if row.given == given]
    methods = list(dict.fromkeys(row.method for row in rows))
    clips = {row.clip: row.scene for row in rows}
    scenes = sorted(set(clips.values()))
    tables: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for scene in (*scenes, TOTAL):
        names = [clip for clip, of in clips.items() if scene in (of, TOTAL)]
        tables[scene] = {method: _columns(rows, method, names) for method in methods}
    moving = tuple(scene for scene in scenes if tables[scene][COPY]["motion"].mean() >= MOVING)
    figures = {
        scene: {method: _figures(columns, scene in (*moving, TOTAL)) for method, columns in table.items()}
        for scene, table in tables.items()
    }
    judged = moving if MODEL in methods else ()
    gain = Figure(value=np.nan, low=np.nan, high=np.nan)
    if MODEL in methods:
        ours, still = tables[TOTAL][MODEL], tables[TOTAL][COPY]
        gain = _figure({"gain": ours["moved_iou"] - still["moved_iou"], "motion": still["motion"]}, "gain", "motion")
    return Summary(
        given=given,
        clips=len(clips),
        figures=figures,
        moving=moving,
        better_iou=tuple(s for s in judged if _of(figures, s, MODEL) > _of(figures, s, COPY)),
        better_error=tuple(s for s in judged if figures[s][MODEL]["error_ratio"].value < 1),
        gain=gain,
    )


def _of(figures: Mapping[str, Mapping[str, Mapping[str, Figure]]], scene: str, method: str) -> float:
    return figures[scene][method]["motion_iou"].value


def _columns(rows: Sequence[Row], method: str, clips: Sequence[str]) -> dict[str, np.ndarray]:
    scores: dict[str, list[dict[str, float]]] = {clip: [] for clip in clips}
    for row in rows:
        if row.method == method and row.clip in scores:
            scores[row.clip].append(row.score.figures())
    names = next(iter(scores.values()))[0]
    return {name: np.array([np.mean([s[name] for s in scores[clip]]) for clip in clips]) for name in names}


def _figures(columns: Columns, moves: bool) -> dict[str, Figure]:
    """Of one method; what is divided by motion is NaN where there is hardly any."""
    figures = {name: _figure(columns, name) for name in ("psnr", "ssim", "iou")}
    ratios = {"motion_iou": ("moved_iou", "motion"), "error_ratio": ("error", "still_error")}
    nothing = Figure(value=np.nan, low=np.nan, high=np.nan)
    return figures | {name: _figure(columns, *pair) if moves else nothing for name, pair in ratios.items()}


def _figure(columns: Columns, name: str, over: str | None = None) -> Figure:
    """The mean of a column over clips, or its ratio to the mean of another; clips without a value are left out."""
    keep = ~np.isnan(columns[name])
    above = columns[name][keep]
    below = np.ones(len(above)) if over is None else columns[over][keep]
    if not below.sum() > 0:
        return Figure(value=np.nan, low=np.nan, high=np.nan)
    value = float(above.sum() / below.sum())
    drawn = _draws(len(above))
    top, bottom = drawn @ above, drawn @ below
    ends = np.quantile(top[bottom > 0] / bottom[bottom > 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value=value, low=float(ends[0]), high=float(ends[1]))


@lru_cache(maxsize=16)
def _draws(count: int) -> np.ndarray:
    """How often each clip is drawn, a row for each of `RESAMPLES` draws of `count`."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
