"""Trying again, then giving up on the item and not on the run."""

import os
import re
import time
from collections.abc import Callable

from cosmos_curate.engine.ledger import Record, dumps, loads
from cosmos_curate.engine.storage import FULL, OutputError
from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.stage import Columns


def attempt(
    name: str,
    compute: Callable[[], Columns],
    *,
    attempts: int = 3,
    pause_s: float = 0.1,
    shown: Callable[[str], str] = str,
) -> Record:
    """Return what `compute` gives, or after the last attempt the reason for quarantine: never an item's own error.

    Columns come back as the ledger would give them, so that a first run and a resumed one hold the same values.

    Args:
        name: of the stage, for the reason.
        attempts: at most; Unusable ends it at once, as trying again will not help.
        pause_s: before the second attempt, doubled before each further one.
        shown: what a reason is to say of an error's text; see `placeless`.

    Raises:
        OutputError: the output cannot be written, or a disk is full.
        InputError: `attempts` is below 1, or what was run says that a setting is wrong, which is no fault of the item.
    """
    if attempts < 1:
        raise InputError(f"attempts {attempts} is below 1")
    reason = None
    for tried in range(1, attempts + 1):
        try:
            return Record(columns=loads(dumps(dict(compute()))), attempts=tried)
        except (OutputError, InputError):
            raise
        except Unusable as error:
            return Record(columns={}, quarantine=_reason(name, shown(str(error))), attempts=tried)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise OutputError(f"{name}: {error.strerror}; free some space and run again") from error
            reason = _reason(name, shown(f"{type(error).__name__}: {error}"))
            if tried < attempts:
                time.sleep(pause_s * 2 ** (tried - 1))
    return Record(columns={}, quarantine=reason, attempts=attempts)


def placeless(text: str, *, inputs: str, work: str) -> str:
    """Return a text without what differs from place to place, as reasons are the same wherever a run is made.

    Args:
        inputs: folder whose name is cut off its files'.
        work: folder whose files lose their names.
    """
    return re.sub(re.escape(work) + r"[^\s'\":,]*", "a working file", text).replace(os.path.join(inputs, ""), "")


def _reason(name: str, text: str) -> str:
    return f"{name}: {' '.join(text.split())}"[:500]
