"""Bars as HTML tables with an inline SVG a row: text keeps its size at any width, and figures can be read aloud."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cosmos_curate.stats.amounts import length
from cosmos_curate.stats.distributions import Distribution

LEAST = 0.5
"""Percent of the bar's room that even one clip of millions takes, so that it shows."""
STEPS = {
    "scored": ("found", "clips, and videos that gave none"),
    "quarantine": ("usable", "not put aside"),
    "duplicate": ("unique", "no copy of another clip"),
    "mix": ("mix", "wanted by the mix of types"),
    "captioned": ("captioned", "not put aside by the captioner"),
}
"""What a step that is no rule is called, and what it asks."""


def bars(one: Distribution, note: str = "") -> str:
    """Return one distribution as bars, the kept clips first, with a mark where the target is.

    Empty bars at either end are left out.

    Args:
        note: said below the title.
    """
    total = sum(one.kept) + sum(one.dropped)
    target = one.target or (0.0,) * len(one.labels)
    marks = [share * total for share in target]
    scale = 100 / max([*(k + d for k, d in zip(one.kept, one.dropped, strict=True)), *marks, 1])
    filled = [p for p, (k, d, m) in enumerate(zip(one.kept, one.dropped, marks, strict=True)) if k or d or m]
    rows = []
    for place in range(filled[0], filled[-1] + 1) if filled else ():
        kept, dropped = one.kept[place], one.dropped[place]
        figures = [f"{kept:,}", f"{dropped:,}"]
        if one.target is not None:
            figures = [f"{100 * kept / max(total, 1):.0f} %", f"{100 * target[place]:.0f} %"]
        mark = marks[place] * scale if one.target is not None else None
        rows.append(_row(escape(one.labels[place]), kept * scale, dropped * scale, figures, mark))
    heads = ("Kept", "Dropped") if one.target is None else ("Shards", "Target")
    return _plot(one.name, one.title, note, "", heads, rows)


def funnel(steps: Sequence[Mapping[str, Any]], idle: Sequence[str] = ()) -> str:
    """Return what each step asks, and how many clips it left and dropped.

    Args:
        steps: as a run's report has them.
        idle: names of rules that no clip had a value for.
    """
    most = max((step["clips"] + step.get("dropped", 0) for step in steps), default=0)
    scale = 100 / max(most, 1)
    rows = []
    for step in steps:
        name, asks = STEPS.get(step["step"], (step["step"], ""))
        asks = f"<code>{escape(step['test'])}</code>" if "test" in step else escape(asks)
        if step["step"] in idle:
            asks += ": no clip has a value, so all pass"
        gone = step.get("dropped", 0)
        figures = [f"{step['clips']:,}", f"{gone:,}" if gone else "–", escape(length(3600 * step["hours"]))]
        label = f"{escape(name)}<small>{asks}</small>"
        rows.append(_row(label, step["clips"] * scale, gone * scale, figures, None))
    return _plot("funnel", "Clips left by each step", "", "Step", ("Left", "Dropped", "Length"), rows)


def _plot(name: str, title: str, note: str, first: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    said = f"<p>{escape(note)}</p>" if note else ""
    cells = "".join(f'<th scope="col" class="figure">{escape(head)}</th>' for head in heads)
    corner = f'<th scope="col" class="label">{escape(first)}</th>' if first else '<td class="label"></td>'
    return (
        f'<figure class="plot" id="plot-{escape(name)}"><figcaption>{escape(title)}</figcaption>{said}'
        f'<table class="bars"><thead><tr>{corner}<td class="bar"></td>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></figure>"
    )


def _row(label: str, kept: float, dropped: float, figures: Sequence[str], mark: float | None) -> str:
    """One row; the label is HTML, widths and the mark are percent of the bar's room."""
    found, x = [], 0.0
    for width, kind in ((kept, "kept"), (dropped, "dropped")):
        if width > 0:
            width = max(width, LEAST)
            found.append(f'<rect class="{kind}" x="{min(x, 100 - width):.2f}" y="2" width="{width:.2f}" height="12"/>')
            x += width
    if mark is not None:
        found.append(f'<rect class="target" x="{min(mark, 99):.2f}" y="0" width="1" height="16"/>')
    cells = "".join(f'<td class="figure">{figure}</td>' for figure in figures)
    return (
        f'<tr><th scope="row" class="label">{label}</th><td class="bar">'
        f'<svg viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">{"".join(found)}</svg></td>'
        f"{cells}</tr>"
    )
