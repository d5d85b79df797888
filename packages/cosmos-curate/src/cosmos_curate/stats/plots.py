"""Bars as inline SVG: no script, no font and no file from anywhere else."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cosmos_curate.stats.distributions import Distribution

ROW, LABEL, WIDTH, FIGURE = 22, 190, 560, 70
"""Pixels: height of a bar's row, width of its label, of the whole plot, and of the figure behind the bar."""


def bars(one: Distribution) -> str:
    """Return one distribution as bars, the kept clips first, with a mark where the target is."""
    total = sum(one.kept) + sum(one.dropped)
    most = max((k + d for k, d in zip(one.kept, one.dropped, strict=True)), default=0)
    marks = [share * total for share in one.target] if one.target is not None else []
    scale = (WIDTH - LABEL - FIGURE) / max([most, *marks, 1])
    rows = []
    for place, (label, kept, dropped) in enumerate(zip(one.labels, one.kept, one.dropped, strict=True)):
        mark = marks[place] * scale if marks else None
        figure = f"{kept}" if not any(one.dropped) else f"{kept} of {kept + dropped}"
        if one.target is not None:
            figure = f"{100 * kept / max(total, 1):.0f} % / {100 * one.target[place]:.0f} %"
        rows.append(_row(place, label, [(kept * scale, "kept"), (dropped * scale, "dropped")], figure, mark))
    return _plot(f"{one.title}", len(one.labels), rows)


def funnel(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return how many clips each step left, and dropped."""
    most = max((step["clips"] for step in steps), default=0)
    scale = (WIDTH - LABEL - FIGURE - 40) / max(most, 1)
    rows = []
    for place, step in enumerate(steps):
        gone = step.get("dropped", 0)
        figure = f"{step['clips']}" + (f" (−{gone})" if gone else "")
        rows.append(
            _row(place, step["step"], [(step["clips"] * scale, "kept"), (gone * scale, "dropped")], figure, None)
        )
    return _plot("Clips left by each step", len(steps), rows)


def _plot(title: str, count: int, rows: Sequence[str]) -> str:
    height = count * ROW
    return (
        f'<figure class="plot"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(rows)}</svg></figure>'
    )


def _row(place: int, label: str, parts: Sequence[tuple[float, str]], figure: str, mark: float | None) -> str:
    top, x = place * ROW, float(LABEL)
    found = [f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(label)}</text>']
    for width, kind in parts:
        if width > 0:
            found.append(f'<rect class="{kind}" x="{x:.1f}" y="{top + 3}" width="{width:.1f}" height="{ROW - 6}"/>')
            x += width
    if mark is not None:
        found.append(f'<rect class="target" x="{LABEL + mark - 1:.1f}" y="{top}" width="2" height="{ROW}"/>')
        x = max(x, LABEL + mark)
    found.append(f'<text x="{x + 6:.1f}" y="{top + 15}">{escape(figure)}</text>')
    return "".join(found)
