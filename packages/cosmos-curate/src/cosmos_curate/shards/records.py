"""The record beside each clip in a shard: what a training loop reads of it, at the top level, as JSON."""

import json
from collections.abc import Mapping
from typing import Any

from cosmos_curate.schema import RECORD_KEYS, VERSION

MORE_KEYS = ("quality", "aesthetic", "motion", "camera_motions", "tags", "text", "letterbox", "variable_rate")


def record(row: Mapping[str, Any]) -> bytes:
    """Return the record of a row of the manifest; equal rows give equal bytes, and nulls are left out."""
    found = {name: row.get(name) for name in (*RECORD_KEYS, *MORE_KEYS)}
    said = {name: value for name, value in found.items() if value is not None}
    return json.dumps({"schema": VERSION, **said}, ensure_ascii=False, allow_nan=False).encode()
