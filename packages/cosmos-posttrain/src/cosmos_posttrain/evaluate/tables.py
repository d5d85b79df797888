"""The evaluation as Markdown and as plain dicts."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cosmos_posttrain.evaluate.physics import MODEL, Row
from cosmos_posttrain.evaluate.summary import LEVEL, TOTAL, Figure, Summary

DECIMALS = {"psnr": 2, "ssim": 3, "iou": 3, "motion_iou": 3, "error_ratio": 3}
"""Of every figure, in the order of the columns."""
HEADS = ("scene", "method", "PSNR, dB", "SSIM", "IoU", "motion-weighted IoU", "error ratio")


def table(summary: Summary) -> str:
    """A Markdown table, a line per scene and method; intervals in the lines of the total."""
    lines = [f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for scene, methods in summary.figures.items():
        for method, figures in methods.items():
            cells = [_cell(figures[name], places, scene == TOTAL) for name, places in DECIMALS.items()]
            lines.append(f"| {scene} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(summary: Summary) -> str:
    """One line: in how many moving scenes, and in total, the model beats the last frame held still."""
    count = len(summary.moving)
    if MODEL not in summary.figures[TOTAL]:
        return f"{count} moving scenes of {len(summary.figures) - 1}"
    error = summary.figures[TOTAL][MODEL]["error_ratio"]
    return (
        f"the model beats copy-last-frame on motion-weighted IoU in {len(summary.better_iou)} of {count} moving scenes "
        f"and by {_cell(summary.gain, 3, True)} in total, and on squared error where truth or prediction changes in "
        f"{len(summary.better_error)} of {count}, with {_cell(error, 3, True)} of its error in total"
    )


def plain(summaries: Sequence[Summary]) -> dict[str, Any]:
    """All figures by number of conditioning frames."""
    return {str(summary.given): asdict(summary) | {"level": LEVEL} for summary in summaries}


def plain_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every score of every clip."""
    return [asdict(row) for row in rows]


def _cell(figure: Figure, places: int, interval: bool) -> str:
    if math.isnan(figure.value):
        return "-"
    ends = f" ({figure.low:.{places}f} to {figure.high:.{places}f})" if interval else ""
    return f"{figure.value:.{places}f}{ends}"
