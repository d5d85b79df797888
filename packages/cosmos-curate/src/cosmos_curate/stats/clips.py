"""Clips on a page: pictures, where they come from, why they were dropped or what they are called."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_curate.clips.cut import clip_name
from cosmos_curate.errors import Unusable
from cosmos_curate.manifest import take
from cosmos_curate.selection import DUPLICATE
from cosmos_curate.stats.amounts import rounded
from cosmos_curate.stats.thumbnails import thumbnail

if TYPE_CHECKING:
    import pyarrow as pa

    from cosmos_curate.engine.storage import Store

COLUMNS = (
    "clip_id",
    "source",
    "start_s",
    "duration_s",
    "width",
    "height",
    "caption",
    "camera_motion",
    "drop_rule",
    "drop_value",
    "dup_of",
    "dup_similarity",
)
"""Columns of the manifest that are shown."""


def spread(places: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the places, evenly from first to last."""
    if len(places) <= most:
        return list(places)
    return [places[(2 * index + 1) * len(places) // (2 * most)] for index in range(most)]


def figures(table: "pa.Table", places: Sequence[int], store: "Store", work: str) -> list[str]:
    """Return HTML of the clips at these rows; one whose file is gone or bad is shown without a picture.

    Args:
        table: of the manifest's schema.
        work: local folder for copies of remote clips.
    """
    rows = take(table.select(list(COLUMNS)), places).to_pylist()
    wanted = {row["dup_of"] for row in rows if row["dup_of"] is not None}
    originals: dict[str, Mapping[str, Any]] = {}
    if wanted:
        ids = table["clip_id"].to_pylist()
        at = [place for place, name in enumerate(ids) if name in wanted]
        originals = {row["clip_id"]: row for row in take(table.select(list(COLUMNS)), at).to_pylist()}
    return [_figure(row, originals.get(row["dup_of"]), store, work) for row in rows]


def _figure(row: Mapping[str, Any], original: Mapping[str, Any] | None, store: "Store", work: str) -> str:
    where = f"{row['source']}, from {row['start_s'] or 0:.1f} s"
    picture = "<p>No picture: the clip's file is not there or cannot be read.</p>"
    # A file of equal bytes has no clips of its own: its original's show the same.
    names = [row["clip_id"], *([row["dup_of"]] if row["dup_similarity"] == 1.0 else [])]
    for name in names:
        try:
            with store.local(clip_name(name), work) as path:
                alt = escape(f"Moments of {where}")
                picture = f'<img src="{thumbnail(Path(path))}" alt="{alt}" loading="lazy">'
            break
        except (OSError, Unusable):
            continue
    facts = [f"{row['duration_s'] or 0:.1f} s", f"{row['width']}×{row['height']}"]
    facts += [] if row["camera_motion"] is None else [f"camera: {row['camera_motion']}"]
    said = [f"<span>{escape(where)}</span>", escape(", ".join(facts))]
    if row["drop_rule"] == DUPLICATE and original is not None:
        cosine = "" if row["dup_similarity"] is None else f", cosine {row['dup_similarity']:.3f}"
        said.append(f"<b>{escape(f'copy of {_at(original)}{cosine}')}</b>")
    elif row["drop_rule"] is not None:
        value = "" if row["drop_value"] is None else f": {rounded(row['drop_value'])}"
        said.append(f"<b>{escape(row['drop_rule'] + value)}</b>")
    if row["caption"] is not None:
        said.append(escape(row["caption"]))
    return f"<figure>{picture}<figcaption>{'<br>'.join(said)}</figcaption></figure>"


def _at(row: Mapping[str, Any]) -> str:
    return f"{row['source']}, from {row['start_s'] or 0:.1f} s"
