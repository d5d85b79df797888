"""`select`: other rules, duplicates, mix or shards on a finished manifest; no model runs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from cosmos_curate.captions.template import SOURCE as TEMPLATE
from cosmos_curate.captions.template import template_columns
from cosmos_curate.config import FinishConfig, from_json
from cosmos_curate.engine.keys import result_key
from cosmos_curate.engine.ledger import Ledger
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.storage import Store
from cosmos_curate.engine.workshop import workshop
from cosmos_curate.errors import InputError
from cosmos_curate.finish import finish, read_embeddings
from cosmos_curate.manifest import models_of, read_manifest
from cosmos_curate.pipeline import CAPTION_KEY, CONFIG, REPORT
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
    _read_config(store)  # before a lock makes a folder of a name that was mistyped
    with locked(store), workshop(store) as work:
        table = read_manifest(store)
        before, captioner, key = _read_config(store)
        config, ledger = change(before), Ledger(store)

        def caption(items: Sequence[Item]) -> Iterable[Item]:
            return (_remembered(item, ledger, key, captioner) for item in items)

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
            lance=config.lance,
        )
        report = {**json.loads(store.read_bytes(REPORT)), **outcome}
        store.write_whole(REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return outcome


def _read_config(store: Store) -> tuple[FinishConfig, str, str]:
    """Settings of the run that made an output, the name of its captioner, and the key of its captions."""
    try:
        said = json.loads(store.read_bytes(CONFIG))
        parts = {part.name: said[part.name] for part in fields(FinishConfig)}
        return from_json(FinishConfig, parts), said["caption"]["captioner"], said[CAPTION_KEY]
    except FileNotFoundError:
        raise InputError(f"{store.url}: holds no {CONFIG}; name the output folder of a finished run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{store.url}/{CONFIG} cannot be used ({error}); run again to make it anew") from error


def _remembered(item: Item, ledger: Ledger, key: str, captioner: str) -> Item:
    """The clip with the caption that some run gave it; a template needs no model, so that one is made."""
    record = ledger.read(item.id).get(result_key(item.id, key))
    if record is not None and record.quarantine is None:
        return replace(item, columns={**item.columns, **record.columns})
    return replace(item, columns={**item.columns, **template_columns(item.columns)}) if captioner == TEMPLATE else item
