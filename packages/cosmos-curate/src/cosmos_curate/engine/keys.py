"""Names of results: what a stage's result depends on, the stages whose columns it reads among it."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from cosmos_curate.errors import InputError
from cosmos_curate.stage import Stage


def result_key(item: str, key: str) -> str:
    """Return the name of an item's result, given its stage's key."""
    return hashlib.sha256(f"{item} {key}".encode()).hexdigest()


def keys_of(stages: Sequence[Stage], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return each stage's key by its name: all that its result depends on beside the item.

    The keys of the stages that write what it reads are part of it, so that new tags give new captions.

    Args:
        stages: in the order they run.
        given: columns that items come with, and the key of what wrote each ("" where the item's id covers it).

    Raises:
        InputError: a stage reads what nothing before it writes, or a name or column comes twice.
    """
    writers = dict(given or {})
    keys: dict[str, str] = {}
    written: set[str] = set()
    for stage in stages:
        if stage.name in keys:
            raise InputError(f"two stages are called {stage.name}: give one of them another name")
        unknown = sorted(set(stage.reads) - set(writers))
        if unknown:
            raise InputError(f"stage {stage.name} reads {', '.join(unknown)}, which no stage before it writes")
        twice = sorted(set(stage.writes) & written)
        if twice:
            raise InputError(f"stage {stage.name} writes {', '.join(twice)}, which a stage before it writes")
        read = {name: writers[name] for name in sorted(stage.reads)}
        text = json.dumps([stage.key(""), read], ensure_ascii=True)
        keys[stage.name] = hashlib.sha256(text.encode()).hexdigest()
        written.update(stage.writes)
        writers.update(dict.fromkeys(stage.writes, keys[stage.name]))
    return keys
