"""What a run's folder says of itself: the recipe it was begun with, which a run that goes on must have too."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.jsontext import to_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FILE = "recipe.json"


def keep_record(
    recipe: "DataclassInstance", beside: Mapping[str, Any], out: Path, *, resume: bool, first: bool
) -> Callable[[], None]:
    """Write a recipe, and what it was run with, to the run's folder; a run that goes on must have the same.

    Args:
        recipe: a dataclass with a field ``loop``, which may change.
        beside: further facts by the name of the option they come from, such as digests of the loss's networks.
        out: the folder.
        resume: whether the run goes on.
        first: whether this is the process that writes.

    Returns:
        What writes them anew, for a run that went on and may have another length.

    Raises:
        InputError: the run was begun with something else.
    """
    path = out / FILE
    mine = json.loads(to_json(asdict(recipe))) | dict(beside)

    def keep() -> None:
        if first:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(path, to_json(mine, indent=1).encode())

    begun = any((out / "checkpoints").glob("step-*"))
    if resume and begun and path.exists():
        try:
            theirs = json.loads(path.read_bytes())
            differing = [name for name in mine if name != "loop" and theirs[name] != mine[name]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is damaged; name another folder") from error
        if differing:
            name = differing[0]
            way = f"give the same --{name}" if name in beside else "name another folder"
            raise InputError(f"{path}: was begun with {name} {theirs[name]}, now {mine[name]}; {way}")
    elif not begun:
        keep()
    return keep
