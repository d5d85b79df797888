"""JSON that every reader accepts: NaN and the infinities, which JSON lacks, become null, and all text is UTF-8."""

import json
import math
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:  # noqa: ANN401 - any JSON value
    """Return the text of dicts, sequences, strings, numbers and None, keys in their order."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def readable(text: str) -> str:
    """Return text that UTF-8 can hold: of a file name in another encoding, each odd byte FF is spelt ``\\udcff``."""
    return text.encode(errors="backslashreplace").decode()


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {readable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
