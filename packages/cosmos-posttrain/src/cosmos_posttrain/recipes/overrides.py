"""Recipes changed from the command line: ``FIELD=VALUE``, with dots into nested fields: ``loop.optimizer.rate``."""

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cosmos_tokenizer import InputError

T = TypeVar("T")


def overridden(recipe: T, changes: Sequence[str]) -> T:
    """The recipe with each ``FIELD=VALUE`` in its place; values are JSON, and what is no JSON is text.

    Raises:
        InputError: there is no such field, or the value is not of its type or range.
    """
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"{change!r} sets nothing: write FIELD=VALUE, such as loop.optimizer.rate=1e-4")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        recipe = _changed(recipe, path.split("."), value, path)
    return recipe


def _changed(node: Any, names: Sequence[str], value: Any, path: str) -> Any:  # noqa: ANN401 - any nested field
    if not is_dataclass(node) or isinstance(node, type):
        raise InputError(f"there is no field {path}: what {path.rpartition('.')[0]} holds has no fields")
    known = [field.name for field in fields(node)]
    name, *rest = names
    if name not in known:
        raise InputError(f"there is no field {path}: {type(node).__name__} has {', '.join(known)}")
    if rest:
        return replace(node, **{name: _changed(getattr(node, name), rest, value, path)})
    return replace(node, **{name: _as(get_type_hints(type(node))[name], value, path)})


def _as(kind: Any, value: Any, path: str) -> Any:  # noqa: ANN401 - any type
    """The value as the field's type has it: JSON knows no tuples and no dataclasses.

    Raises:
        InputError: it is of another type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _as(option, value, path)
            except InputError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
        raise InputError(f"{path} is {value!r}: use one of {', '.join(map(str, arguments))}")
    elif origin is tuple and isinstance(value, list):
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(each) == len(value):
            return tuple(_as(item, entry, path) for item, entry in zip(each, value, strict=True))
    elif isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for name in value:
            if name not in hints:
                raise InputError(f"there is no field {path}.{name}: {kind.__name__} has {', '.join(hints)}")
        if lacking := [name for name in _required(kind) if name not in value]:
            raise InputError(
                f"{path} lacks {', '.join(lacking)}: give all that {kind.__name__} asks for, or set single fields, "
                f"such as {path}.{lacking[0]}=VALUE"
            )
        return kind(**{name: _as(hints[name], entry, f"{path}.{name}") for name, entry in value.items()})
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, dict):
        return value
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    raise InputError(f"{path} is {value!r}: it must be {_named(kind)}")


def _required(kind: Any) -> list[str]:  # noqa: ANN401 - any dataclass
    return [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]


def _named(kind: Any) -> str:  # noqa: ANN401 - any type
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")
