"""One HTML file that shows a curated folder: funnel, distributions, thumbnails with captions and reasons, stages."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from cosmos_curate.content.mix import PAPER_TARGET
from cosmos_curate.manifest import take
from cosmos_curate.rules import Rule
from cosmos_curate.selection import DUPLICATE, MIX
from cosmos_curate.stats.amounts import length
from cosmos_curate.stats.clips import figures, spread
from cosmos_curate.stats.distributions import COLUMNS, distributions
from cosmos_curate.stats.plots import bars, funnel

if TYPE_CHECKING:
    import pyarrow as pa

    from cosmos_curate.engine.storage import Store

MOST = 12
"""Clips shown of those kept, and of those that each rule dropped."""
LISTED = 200
"""Videos and clips named that were put aside."""

_STAGES = {
    "items": ("Items", ".0f"),
    "reused": ("Done before", ".0f"),
    "quarantined": ("Put aside", ".0f"),
    "cpu_s": ("CPU, s", ".1f"),
    "cpu_s_per_clip_hour": ("CPU, s for an hour of clips", ".0f"),
    "items_per_s": ("Items a second", ".2f"),
    "video_hours_per_h": ("Video hours an hour", ".2f"),
}
_NOTES = {
    "motion": "What moves beside the camera.",
    "quality": "BRISQUE with measures of blur and blocks, from 0 to 100.",
    "text_overlay": "Titles, subtitles and logos; signs in the scene do not count.",
}
_BY_LABELS = "Guessed from ImageNet's labels, which do not know these types: weak."
_BY_HEAD = "By the trained head that the run was given."


def page(table: "pa.Table", report: Mapping[str, Any], store: "Store", *, work: str, most: int = MOST) -> str:
    """Return the page of a manifest and a run's report; the clips' pictures are in it.

    Args:
        work: local folder for copies of remote clips.
        most: clips shown of those kept, and of those that each rule dropped, spread evenly over them.
    """
    keep = table["keep"].to_pylist()
    rule = table["drop_rule"].to_pylist()
    aside = [reason is not None for reason in table["quarantine"].to_pylist()]
    kept = [place for place, stays in enumerate(keep) if stays]
    gone = [place for place, away in enumerate(aside) if away]
    by_rule: dict[str, list[int]] = {}
    for place, stays in enumerate(keep):
        if not stays and not aside[place]:
            by_rule.setdefault(rule[place], []).append(place)
    lengths = table["duration_s"].to_pylist()
    steps = _steps(report.get("funnel", []), [lengths[place] or 0 for place in kept])
    tests = {step["step"]: step["test"] for step in steps if "test" in step}
    order = {step["step"]: index for index, step in enumerate(steps)}
    dropped = sorted(by_rule.items(), key=lambda part: (order.get(part[0], len(order)), part[0]))
    facts = {
        "Videos": f"{len(set(table['source'].to_pylist())):,}",
        "Clips": f"{len(keep) - len([place for place in gone if lengths[place] is None]):,}",
        "Kept": f"{len(kept):,}",
        "Length kept": f"{length(sum(lengths[place] or 0 for place in kept))}",
        "Length of all": length(sum(seconds or 0 for seconds in lengths)),
        "Put aside": f"{len(gone):,}",
    }
    if "elapsed_s" in report:
        facts["Last run took"] = length(report["elapsed_s"])
    return Template(files("cosmos_curate.stats").joinpath("page.html").read_text("utf-8")).substitute(
        facts="".join(f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in facts.items()),
        funnel=funnel(steps, _idle(table, tests)),
        plots=_plots(table, report),
        kept_shown=_count(min(most, len(kept)), len(kept), "clips in the shards", "No clip was kept."),
        kept="\n".join(figures(table, spread(kept, most), store, work)),
        dropped="\n".join(_dropped(table, name, places, tests, store, work, most) for name, places in dropped)
        or "<p>No clip was dropped.</p>",
        quarantined=_put_aside(table, gone),
        stages=_stages(report.get("stages", {})),
    )


def _steps(steps: Iterable[Mapping[str, Any]], kept: Sequence[float]) -> list[Mapping[str, Any]]:
    """The funnel, with a last step where a captioner put clips aside that the rules had left."""
    found = list(steps)
    if found and found[-1]["clips"] != len(kept):
        gone = found[-1]["clips"] - len(kept)
        found.append({"step": "captioned", "clips": len(kept), "hours": sum(kept) / 3600, "dropped": gone})
    return found


def _idle(table: "pa.Table", tests: Mapping[str, str]) -> list[str]:
    """Names of the rules whose columns hold nothing."""
    found = []
    for name, test in tests.items():
        columns = Rule(name=name, test=test).columns
        if len(table) and all(table[column].null_count == len(table) for column in columns):
            found.append(name)
    return found


def _plots(table: "pa.Table", report: Mapping[str, Any]) -> str:
    types = report.get(MIX, {}).get("types")
    target = {name: one["target"] for name, one in types.items()} if types else PAPER_TARGET
    head = report.get("config", {}).get("content", {}).get("type_head")
    aim = "Copies counted. The target is the one that the run was told to reach."
    if not types:
        aim = "The target is that of arXiv 2501.03575; the run was not told to reach it (--mix)."
    notes = {**_NOTES, "video_type": _BY_HEAD if head else _BY_LABELS, "mix": aim}
    found = distributions({name: table[name].to_pylist() for name in COLUMNS}, target)
    return "\n".join(bars(one, notes.get(one.name, "")) for one in found) or "<p>No clip has a value.</p>"


def _count(shown: int, total: int, what: str, none: str) -> str:
    if total == 0:
        return none
    return f"{total:,} {what}." if shown == total else f"{shown:,} of {total:,} {what}."


def _dropped(
    table: "pa.Table",
    name: str,
    places: Sequence[int],
    tests: Mapping[str, str],
    store: "Store",
    work: str,
    most: int,
) -> str:
    """The clips that one rule dropped."""
    asks = f"the rule is <code>{escape(tests[name])}</code>" if name in tests else "the value is what was found"
    if name == DUPLICATE:
        asks = "each is a copy of the clip that is named"
    shown = _count(min(most, len(places)), len(places), f"{'clip' if len(places) == 1 else 'clips'} dropped", "")
    clips = "\n".join(figures(table, spread(places, most), store, work))
    return f'<h3>{escape(name)}</h3>\n<p>{shown[:-1]}: {asks}.</p>\n<div class="clips">\n{clips}\n</div>'


def _put_aside(table: "pa.Table", places: Sequence[int]) -> str:
    """The table of what could not be used."""
    if not places:
        return "<p>Every video and clip could be used.</p>"
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row["source"])}</th><td class="text">{escape(row["quarantine"])}</td></tr>'
        for row in take(table.select(["source", "quarantine"]), places[:LISTED]).to_pylist()
    )
    shown = _count(min(LISTED, len(places)), len(places), "videos and clips that could not be used", "")
    return (
        f'<p>{shown}</p>\n<div class="wide"><table>\n<thead><tr><th scope="col">Video</th><th scope="col">Why</th></tr>'
        f"</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of what each stage did and cost."""
    heads = "".join(f'<th scope="col">{title}</th>' for title, _ in _STAGES.values())
    rows = []
    for name, measured in stages.items():
        values = [(measured.get(key), form) for key, (_, form) in _STAGES.items()]
        cells = "".join(f"<td>{'–' if value is None else format(value, form)}</td>" for value, form in values)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return f'<thead><tr><th scope="col">Stage</th>{heads}</tr></thead>\n<tbody>\n' + "\n".join(rows) + "\n</tbody>"
