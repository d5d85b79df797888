"""JSON that every reader accepts: NaN and the infinities, which JSON lacks, become null."""

import json
import math
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:  # noqa: ANN401 - any JSON value
    """Return the text of dicts, sequences, strings, numbers and None, keys in their order."""
    return json.dumps(_without_infinities(value), indent=indent, allow_nan=False)


def _without_infinities(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {str(key): _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
