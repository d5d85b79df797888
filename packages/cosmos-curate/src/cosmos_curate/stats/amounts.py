"""Amounts as people read them: a length in its fitting unit, and numbers inside a text with few digits."""

import re

_LONG = re.compile(r"(?<![\w.])-?\d+\.\d{3,}(?:e[+-]?\d+)?(?![\w.])")


def length(seconds: float | int) -> str:
    """Return a length in seconds, minutes or hours."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 5970:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def rounded(text: str) -> str:
    """Return a text with its numbers of many decimals at four digits; other words stay as they are."""
    return _LONG.sub(lambda found: f"{float(found.group()):.4g}", text)
