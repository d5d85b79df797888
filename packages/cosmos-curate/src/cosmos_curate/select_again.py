"""`select`: other rules, duplicates, mix or shards on a finished manifest; no model runs."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cosmos_curate.captions.template import template_columns
from cosmos_curate.config import RunConfig, from_json
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.storage import Store
from cosmos_curate.engine.workshop import workshop
from cosmos_curate.errors import InputError
from cosmos_curate.finish import CAPTIONED, finish, read_embeddings
from cosmos_curate.manifest import models_of, read_manifest
from cosmos_curate.pipeline import CONFIG, REPORT
from cosmos_curate.stage import Item


def select(
    out: str, change: Callable[[RunConfig], RunConfig] = lambda config: config, *, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Decide anew on an output's clips, write its shards and manifest anew, and return the report.

    Settings begin as those of the run, not as those of an earlier `select`.

    Args:
        out: path or address of a finished run's output.
        change: gives other settings; those that need inference have no effect here, and are refused.
        say: takes notices.

    Raises:
        InputError: no finished run there, or a changed setting that needs a run.
        OutputError: the output cannot be written.
    """
    store = Store(out)
    with locked(store), workshop(store) as work:
        table = read_manifest(store)
        before = read_config(store)
        config = change(before)
        kept = {"select": before.select, "shards": before.shards, "text_embedding": before.text_embedding}
        if replace(config, **kept) != before:
            raise InputError("select changes rules, deduplication, mix and shards alone; for other settings, run again")
        known = {
            row["clip_id"]: {name: row[name] for name in CAPTIONED}
            for row in table.select(["clip_id", *CAPTIONED]).to_pylist()
            if row["caption"] is not None
        }
        by_template = config.caption.captioner == "template"

        def caption(items: Sequence[Item]) -> Iterable[Item]:
            return _remembered(items, known, by_template)

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


def read_config(store: Store) -> RunConfig:
    """Return the settings of the run that made an output.

    Raises:
        InputError: it has none, or they are of another version.
    """
    try:
        return from_json(RunConfig, json.loads(store.read_bytes(CONFIG)))
    except FileNotFoundError:
        raise InputError(f"{store.url}: holds no {CONFIG}; name the output folder of a finished run") from None
    except ValueError as error:
        raise InputError(f"{store.url}/{CONFIG}: {error}; run again to make it anew") from error


def _remembered(items: Sequence[Item], known: dict[str, dict[str, Any]], by_template: bool) -> Iterator[Item]:
    for item in items:
        said = known.get(item.id)
        if said is None and by_template:
            said = template_columns(item.columns)
        yield item if said is None else replace(item, columns={**item.columns, **said})
