"""One HTML file that shows a curated folder: funnel, distributions, thumbnails with captions and reasons, stages."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from cosmos_curate.errors import Unusable
from cosmos_curate.manifest import take
from cosmos_curate.stats.distributions import COLUMNS, distributions
from cosmos_curate.stats.plots import bars, funnel
from cosmos_curate.stats.thumbnails import thumbnail

if TYPE_CHECKING:
    import pyarrow as pa

    from cosmos_curate.engine.storage import Store

MOST = 24
"""Clips shown of each kind."""

_SHOWN = ("clip_id", "source", "start_s", "duration_s", "caption", "camera_motion", "drop_rule", "drop_value", "dup_of")
_STAGES = {
    "items": ("Items", ".0f"),
    "reused": ("From before", ".0f"),
    "quarantined": ("Put aside", ".0f"),
    "cpu_s": ("CPU, s", ".1f"),
    "cpu_s_per_clip_hour": ("CPU, s an hour of clips", ".0f"),
    "items_per_s": ("Items a second", ".2f"),
    "video_hours_per_h": ("Video hours an hour", ".1f"),
}


def page(table: "pa.Table", report: Mapping[str, Any], store: "Store", *, work: str, most: int = MOST) -> str:
    """Return the page of a manifest and a run's report; the clips' pictures are in it.

    Args:
        work: local folder for copies of remote clips.
        most: clips shown of those kept, and of those dropped, spread evenly over them.
    """
    keep = table["keep"].to_pylist()
    aside = [reason is not None for reason in table["quarantine"].to_pylist()]
    kept = [place for place, stays in enumerate(keep) if stays]
    dropped = [place for place, stays in enumerate(keep) if not stays and not aside[place]]
    gone = [place for place, away in enumerate(aside) if away]
    hours = sum(take(table, kept)["duration_s"].to_pylist()) / 3600
    parts = {name: table[name].to_pylist() for name in COLUMNS}
    sources = len(set(table["source"].to_pylist()))
    reasons = take(table.select(["source", "quarantine"]), gone[:200]).to_pylist()
    return Template(files("cosmos_curate.stats").joinpath("page.html").read_text("utf-8")).substitute(
        summary=f"{len(kept)} of {len(keep)} clips from {sources} videos are kept: {hours:.3f} hours.",
        funnel=funnel(report.get("funnel", [])),
        plots="\n".join(bars(one) for one in distributions(parts)),
        kept_shown=_count(min(most, len(kept)), len(kept), "kept clips"),
        kept="\n".join(_figures(table, _spread(kept, most), store, work)),
        dropped_shown=_count(min(most, len(dropped)), len(dropped), "dropped clips, each with the first rule it fails"),
        dropped="\n".join(_figures(table, _spread(dropped, most), store, work)),
        quarantined_shown=_count(len(reasons), len(gone), "videos and clips that could not be used"),
        quarantined="\n".join(
            f'<tr><th scope="row">{escape(row["source"])}</th><td class="text">{escape(row["quarantine"])}</td></tr>'
            for row in reasons
        ),
        stage_heads='<th scope="col">Stage</th>'
        + "".join(f'<th scope="col">{escape(title)}</th>' for title, _ in _STAGES.values()),
        stages="\n".join(_stage(name, measured) for name, measured in report.get("stages", {}).items()),
    )


def _count(shown: int, total: int, what: str) -> str:
    return f"All {total} {what}." if shown == total else f"{shown} of {total} {what}."


def _spread(places: Sequence[int], most: int) -> list[int]:
    if len(places) <= most:
        return list(places)
    return [places[(2 * index + 1) * len(places) // (2 * most)] for index in range(most)]


def _figures(table: "pa.Table", places: Sequence[int], store: "Store", work: str) -> list[str]:
    found = []
    for row in take(table.select(list(_SHOWN)), places).to_pylist():
        picture = ""
        name = f"clips/{row['clip_id'][:2]}/{row['clip_id']}.mp4"
        try:
            with store.local(name, work) as path:
                picture = f'<img src="{thumbnail(Path(path))}" alt="" loading="lazy">'
        except (OSError, Unusable):
            picture = "<p>No picture.</p>"
        why = ""
        if row["drop_rule"] is not None:
            value = f": {row['drop_value']}" if row["drop_value"] is not None else ""
            why = f"<br><b>{escape(row['drop_rule'] + value)}</b>"
        text = "" if row["caption"] is None else f"<br>{escape(row['caption'])}"
        where = f"{row['source']}, {row['start_s']:.2f} s, {row['duration_s']:.2f} s long, {row['camera_motion']}"
        found.append(f"<figure>{picture}<figcaption>{escape(where)}{why}{text}</figcaption></figure>")
    return found


def _stage(name: str, measured: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<td>{'–' if measured.get(key) is None else format(measured[key], form)}</td>"
        for key, (_, form) in _STAGES.items()
    )
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
