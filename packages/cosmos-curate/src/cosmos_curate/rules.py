"""Rules that decide which clips stay, evaluated on scored columns: thresholds move without any model running again.

A rule is a line such as `duration_s >= 2`, `camera_motion not in static, shake` or `percentile(quality) >= 0.15`
(arXiv 2501.03575, section 3.2: the lowest 15 % in technical quality go).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosmos_curate.errors import InputError
from cosmos_curate.schema import COLUMNS

Table = Mapping[str, Sequence[Any]]
"""Values of each column, one a clip."""

_TYPES = {column.name: column.type for column in COLUMNS}
_LINE = re.compile(r"\s*(?:(percentile)\s*\(\s*(\w+)\s*\)|(\w+))\s*(>=|<=|==|!=|>|<|not in|in)\s*(.*?)\s*")
_NUMBERS = ("int32", "int64", "float", "double")
_ORDERED = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a clip must fulfil to stay; a null passes, since what was not measured tells nothing.

    Args:
        name: what `drop_rule` says of clips that fail.
        test: column, operator, value: `>=`, `<=`, `>`, `<` for numbers; `==`, `!=`; `in` and `not in` with values
            between commas, where a column that is a list has to hold some, or none, of them. `percentile(column)` is
            the share of clips with a lower value, half of the equal ones included, from 0 to 1, among those that the
            rules before this one left. Tests joined by ` or ` are fulfilled by any one of them.

    Raises:
        InputError: a line that says something else.
    """

    name: str
    test: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", self.name):
            raise InputError(f"rule name {self.name!r} is not lower-case letters, digits, - and _")
        for part in self.test.split(" or "):
            _parse(part)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it looks at."""
        return tuple(_parse(part)[1] for part in self.test.split(" or "))

    @property
    def ranks(self) -> bool:
        """Whether it compares clips with one another, so that it has to come last."""
        return any(_parse(part)[0] for part in self.test.split(" or "))

    def failing(self, columns: Table) -> dict[int, str]:
        """Return the places of the clips that fail, with the values that did."""
        parts = [_failing(part, columns) for part in self.test.split(" or ")]
        places = set(parts[0]).intersection(*parts)
        return {place: ", ".join(part[place] for part in parts) for place in sorted(places)}


def changed(rules: Sequence[Rule], lines: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules with those of `lines` in the place of rules of the same name, or behind the others.

    Args:
        lines: `name: test`, or `name: off` to leave a rule out.

    Raises:
        InputError: a line of another form, or one that turns off a rule that there is not.
    """
    found = {rule.name: rule for rule in rules}
    for line in lines:
        name, colon, test = (part.strip() for part in line.partition(":"))
        if not colon or not name or not test:
            raise InputError(f"rule {line!r} is not NAME: TEST, such as 'length: duration_s >= 3' or 'static: off'")
        if test != "off":
            found[name] = Rule(name=name, test=test)
        elif found.pop(name, None) is None:
            raise InputError(f"rule {name!r} cannot be turned off: there are {', '.join(found) or 'none'}")
    return tuple(found.values())


def apply(rules: Sequence[Rule], columns: Table, places: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Return which of the clips at `places` fail, each with the first rule that it fails and the value that did."""
    failed: dict[int, tuple[str, str]] = {}
    for rule in rules:
        left = [place for place in places if place not in failed]
        judged = {name: [columns[name][place] for place in left] for name in rule.columns}
        failed |= {left[place]: (rule.name, value) for place, value in rule.failing(judged).items()}
    return failed


def _failing(test: str, columns: Table) -> dict[int, str]:
    rank, column, operator, wanted = _parse(test)
    values = columns[column]
    known = [place for place, value in enumerate(values) if not _unknown(value)]
    if rank:
        values = _percentiles(values, known)
    return {place: str(values[place]) for place in known if not _holds(values[place], operator, wanted)}


def _parse(test: str) -> tuple[bool, str, str, Any]:
    match = _LINE.fullmatch(test)
    if match is None:
        raise InputError(f"rule {test!r} is not COLUMN OPERATOR VALUE, such as 'duration_s >= 2'")
    rank, ranked, plain, operator, text = match.groups()
    column = ranked or plain
    kind = _TYPES.get(column)
    if kind is None or kind == "list<window>":
        raise InputError(f"rule {test!r}: the manifest has no column {column!r} to judge by")
    numeric = kind in _NUMBERS
    if operator in _ORDERED or rank:
        if not numeric or operator not in _ORDERED:
            raise InputError(f"rule {test!r}: {column} is {kind}, which {operator!r} cannot judge")
        return bool(rank), column, operator, _number(text, test)
    if not text:
        raise InputError(f"rule {test!r} lacks a value behind {operator!r}")
    if kind.startswith("list") and operator not in ("in", "not in"):
        raise InputError(f"rule {test!r}: {column} is a list; ask with 'in' or 'not in'")
    wanted = [part.strip() for part in text.split(",")] if operator in ("in", "not in") else [text]
    if numeric:
        return False, column, operator, [_number(part, test) for part in wanted]
    if kind == "bool":
        if not set(wanted) <= {"true", "false"}:
            raise InputError(f"rule {test!r}: {column} is true or false")
        return False, column, operator, [part == "true" for part in wanted]
    return False, column, operator, wanted


def _number(text: str, test: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"rule {test!r}: {text!r} is not a number") from None
    if math.isnan(value):
        raise InputError(f"rule {test!r} compares with nan, which nothing fulfils; give a number")
    return value


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _holds(value: Any, operator: str, wanted: Any) -> bool:  # noqa: ANN401 - as the column has it
    if operator in _ORDERED:
        return _ORDERED[operator](value, wanted)
    some = any(part in wanted for part in value) if isinstance(value, list) else value in wanted
    return some == (operator in ("==", "in"))


def _percentiles(values: Sequence[Any], known: Sequence[int]) -> list[Any]:
    """Middle of the ranks that equal values share, so that rows of any order fare alike and one alone is at 0.5."""
    import numpy as np

    ordered = np.sort(np.array([values[place] for place in known], np.float64))
    ranks: list[Any] = [None] * len(values)
    for place in known:
        lower, upper = (np.searchsorted(ordered, values[place], side=side) for side in ("left", "right"))
        ranks[place] = float(lower + upper) / (2 * len(ordered))
    return ranks


DEFAULT_RULES = (
    Rule(name="length", test="duration_s >= 2"),
    Rule(name="static", test="camera_motion != static or motion >= 0.01"),
    Rule(name="shake", test="camera_motion != shake"),
    Rule(name="text", test="text_overlay < 0.3"),
    Rule(name="aesthetic", test="aesthetic >= 3.5"),
    Rule(name="quality", test="percentile(quality) >= 0.15"),
)
"""The paper's filters, in the order of what is cheapest to judge; the share by quality is of what the others leave."""
