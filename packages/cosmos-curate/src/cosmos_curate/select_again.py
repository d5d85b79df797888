"""`select`: other rules, duplicates, mix or shards on a finished manifest; no model runs."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from cosmos_curate.captions.template import SOURCE as TEMPLATE
from cosmos_curate.captions.template import template_columns
from cosmos_curate.config import FinishConfig, from_json
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.storage import Store
from cosmos_curate.errors import InputError
from cosmos_curate.finish import CAPTIONED, finish, read_embeddings
from cosmos_curate.manifest import models_of, read_manifest
from cosmos_curate.pipeline import CONFIG, REPORT, workshop
from cosmos_curate.stage import Item


def select(
    out: str,
    change: Callable[[FinishConfig], FinishConfig] = lambda config: config,
    *,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Decide anew on an output's clips, write its shards and manifest anew, and return the report.

    Settings begin as those of the run, not as those of an earlier `select`.

    Args:
        out: path or address of a finished run's output.
        change: gives other settings than those of the run.
        say: takes notices.

    Raises:
        InputError: no finished run there.
        OutputError: the output cannot be written.
    """
    store = Store(out)
    with locked(store), workshop(store) as work:
        table = read_manifest(store)
        before, captioner = _read_config(store)
        config = change(before)
        known = {
            row["clip_id"]: {name: row[name] for name in CAPTIONED}
            for row in table.select(["clip_id", *CAPTIONED]).to_pylist()
            if row["caption"] is not None
        }

        def caption(items: Sequence[Item]) -> Iterable[Item]:
            return _remembered(items, known, captioner == TEMPLATE)

        outcome = finish(
            store,
            table,
            read_embeddings(store),
            select=config.select,
            shards=config.shards,
            text_embedding=config.text_embedding,
            caption=caption,
            models=models_of(table),
            work=work,
            say=say,
        )
        report = {**json.loads(store.read_bytes(REPORT)), **outcome}
        store.write_whole(REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return outcome


def _read_config(store: Store) -> tuple[FinishConfig, str]:
    """Settings of the run that made an output, and the name of its captioner."""
    try:
        said = json.loads(store.read_bytes(CONFIG))
        parts = {part.name: said[part.name] for part in fields(FinishConfig)}
        return from_json(FinishConfig, parts), said["caption"]["captioner"]
    except FileNotFoundError:
        raise InputError(f"{store.url}: holds no {CONFIG}; name the output folder of a finished run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{store.url}/{CONFIG} cannot be used ({error}); run again to make it anew") from error


def _remembered(items: Sequence[Item], known: dict[str, dict[str, Any]], by_template: bool) -> Iterator[Item]:
    for item in items:
        said = known.get(item.id)
        if said is None and by_template:
            said = template_columns(item.columns)
        yield item if said is None else replace(item, columns={**item.columns, **said})
