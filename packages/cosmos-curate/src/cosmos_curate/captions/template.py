"""Captions put together from what was measured of a clip: no model looks at it, and `caption_source` says "template".

They state measurements and what a weak classifier takes the picture for, with its score; they tell no story. Whoever
trains on captions should leave them out or know what they are.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cosmos_curate.stage import Value

SOURCE = "template"

READS = (
    "duration_s",
    "num_frames",
    "camera_motion",
    "camera_motions",
    "motion",
    "video_type",
    "video_type_score",
    "tags",
    "tag_scores",
    "brightness",
    "colorfulness",
    "text",
)
"""Columns that are used where they have a value."""

_CAMERA = {
    "static": "the camera stands still",
    "pan left": "the camera pans left",
    "pan right": "the camera pans right",
    "tilt up": "the camera tilts up",
    "tilt down": "the camera tilts down",
    "zoom in": "the camera zooms in",
    "zoom out": "the camera zooms out",
    "roll left": "the camera rolls left",
    "roll right": "the camera rolls right",
    "shake": "the camera shakes",
}
_MOTION = ((0.01, "hardly anything moves"), (0.05, "little moves"), (0.2, "things move"), (math.inf, "much moves"))
"""By share of the diagonal a second, up to which; the words are ours."""
_LIGHT = ((0.15, "dark"), (0.3, "dim"), (0.7, ""), (math.inf, "bright"))
_COLOR = ((15.0, "almost without colour"), (33.0, "in faint colours"), (59.0, ""), (math.inf, "in strong colours"))
"""By Hasler and Suesstrunk's measure; they call 15 slightly, 33 moderately and 59 quite colourful (2003)."""
_TAGS, _LEAST_SCORE, _TEXT = 3, 0.1, 80


def template_caption(columns: Mapping[str, Any]) -> str:
    """Return the caption of a clip with these columns, in memory or read back from a manifest: the same either way.

    A column that is missing, null or not a number is passed over.
    """
    parts = [_duration(columns), _camera(columns), _level(columns, "motion", _MOTION)]
    parts += [_type(columns), _tags(columns)]
    parts += [
        " and ".join(filter(None, (_level(columns, "brightness", _LIGHT), _level(columns, "colorfulness", _COLOR))))
    ]
    parts += [_text(columns)]
    return "; ".join(filter(None, parts)) + "."


def template_columns(columns: Mapping[str, Any]) -> dict[str, Value]:
    """Return the columns of captions that a template gives: one window, the whole clip, and no tokens."""
    caption, frames = template_caption(columns), columns.get("num_frames")
    window = {"first_frame": 0, "end_frame": frames, "caption": caption, "status": "ok"}
    return {
        "caption": caption,
        "caption_source": SOURCE,
        "windows": [window | {"prompt_tokens": None, "output_tokens": None}] if frames else [],
    }


def _number(columns: Mapping[str, Any], name: str) -> float | None:
    """Return a number as the manifest keeps it, of 32 bits, so that words do not hang on where it is from."""
    value = columns.get(name)
    if value is None or not math.isfinite(value):
        return None
    return float(np.float32(value))


def _duration(columns: Mapping[str, Any]) -> str:
    seconds = _number(columns, "duration_s")
    return "A clip" if seconds is None else f"A clip of {seconds:.1f} seconds"


def _camera(columns: Mapping[str, Any]) -> str:
    motions = list(columns.get("camera_motions") or []) or [columns.get("camera_motion")]
    told = [_CAMERA[motion] for motion in motions if motion in _CAMERA]
    return " and ".join([told[0], *(part.removeprefix("the camera ") for part in told[1:])]) if told else ""


def _level(columns: Mapping[str, Any], name: str, words: tuple[tuple[float, str], ...]) -> str:
    value = _number(columns, name)
    return "" if value is None else next(word for most, word in words if value < most)


def _type(columns: Mapping[str, Any]) -> str:
    kind, score = columns.get("video_type"), _number(columns, "video_type_score")
    if not kind:
        return ""
    return f"perhaps of the kind {kind}" + ("" if score is None else f" ({score:.2f})")


def _tags(columns: Mapping[str, Any]) -> str:
    tags, scores = columns.get("tags"), columns.get("tag_scores")
    if tags is None or scores is None:
        return ""
    found = [
        f"{_line(tag)} ({score:.2f})"
        for tag, score in zip(tags, np.asarray(scores, np.float32).tolist(), strict=False)
        if score >= _LEAST_SCORE
    ]
    return "a classifier sees " + ", ".join(found[:_TAGS]) if found else ""


def _text(columns: Mapping[str, Any]) -> str:
    text = _line(columns.get("text") or "").replace('"', "'")
    shown = text if len(text) <= _TEXT else text[: _TEXT - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return f'it reads "{shown}"' if shown else ""


def _line(text: str) -> str:
    return " ".join(text.split())
