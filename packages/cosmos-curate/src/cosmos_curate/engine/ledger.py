"""What was done: one small file an item, with each stage's result by the stage's key; the whole of resuming.

Data goes before the ledger: a file that a record names is written first. A record that is missing, cut short or
changed is as good as none: its stage runs again and gives the same.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_curate.engine.storage import Store
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Columns

ARRAY = "__array__"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One stage's result for one item: its columns, or why the item was put aside.

    Args:
        columns: what the stage wrote; empty in quarantine.
        quarantine: the reason, one line; None for a result.
        attempts: how often it was tried.
    """

    columns: Columns
    quarantine: str | None = None
    attempts: int = 1


class Ledger:
    """Results by item and key, in the folder `ledger` of a store.

    An item's results are one file, so that a thousand clips with ten stages are a thousand files. Items of one id are
    written by one worker at a time: a run hands each id out once. Files are not flushed to disk one by one: a record
    that a power cut takes is made again.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, item: str) -> dict[str, Record]:
        """Return the item's results by key, arrays as they were; none if the file is missing or damaged.

        Raises:
            InputError: the item's id is no id.
        """
        try:
            data = self.store.read_bytes(_name(item))
            digest, _, body = data.partition(b"\n")
            if digest.decode("ascii") != hashlib.sha256(body).hexdigest():
                return {}
            return {key: Record(**record) for key, record in loads(body).items()}
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError, TypeError):
            return {}

    def write(self, item: str, records: Mapping[str, Record]) -> None:
        """Add results to the item's; those of other keys stay.

        Raises:
            OutputError: the ledger cannot be written.
            TypeError: a column holds what no column may.
        """
        whole = {
            key: {"columns": dict(record.columns), "quarantine": record.quarantine, "attempts": record.attempts}
            for key, record in sorted((self.read(item) | dict(records)).items())
        }
        body = dumps(whole)
        self.store.write_whole(_name(item), hashlib.sha256(body).hexdigest().encode() + b"\n" + body, flush=False)


def dumps(value: Any) -> bytes:  # noqa: ANN401
    """Return JSON of columns: floats exact, not-a-numbers kept, arrays with type and shape, equal values equal bytes.

    Raises:
        TypeError: something in it is neither JSON nor an array of numbers.
    """
    return json.dumps(value, default=_encode, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def loads(data: bytes) -> Any:  # noqa: ANN401
    """Return what `dumps` was given, tuples as lists, scalars of numpy as Python's.

    Raises:
        ValueError: it is not what `dumps` writes.
    """
    return json.loads(data, object_hook=_decode)


def _name(item: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z_-]{2,128}", item):
        raise InputError(f"{item!r} is no item's id: 2 to 128 letters, digits, _ or -")
    return f"ledger/{item[:2]}/{item}.json"


def _encode(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {ARRAY: [value.dtype.str, list(value.shape), base64.b64encode(value.tobytes()).decode("ascii")]}
    kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"a column cannot hold {kind}: {value!r:.60}")


def _decode(value: dict[str, Any]) -> object:
    if set(value) != {ARRAY}:
        return value
    dtype, shape, text = value[ARRAY]
    return np.frombuffer(bytearray(base64.b64decode(text, validate=True)), np.dtype(dtype)).reshape(shape)
