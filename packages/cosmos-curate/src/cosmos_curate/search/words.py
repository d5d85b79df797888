"""Clips whose written words match: BM25 (Robertson and Zaragoza 2009, equation 3.15) over captions, tags and OCR."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIELDS = ("caption", "windows", "tags", "text")
"""Columns of the manifest that hold words: of the clip's caption, its windows', its tags, and what OCR read."""
SATURATION, LENGTH = 1.2, 0.75
"""The model's k1 and b, at their usual values."""
# Chinese and Japanese have no spaces: a word for each character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, kw_only=True)
class Match:
    """A clip that has at least one of the words.

    Args:
        row: of the manifest.
        score: BM25's; it compares clips for one query, and has no unit.
        fields: which of the query's words each column has.
    """

    row: int
    score: float
    fields: dict[str, list[str]]


def words(text: str) -> list[str]:
    """Return a text's words in one case and one form of their letters."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def written(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the words of each column of a clip."""
    windows = [window["caption"] or "" for window in row.get("windows") or []]
    texts = {
        "caption": row.get("caption") or "",
        # The clip's caption is often its first window's: it is not to count twice.
        "windows": " ".join(text for text in windows if text != row.get("caption")),
        "tags": " ".join(row.get("tags") or []),
        "text": row.get("text") or "",
    }
    return {name: words(text) for name, text in texts.items()}


def match(rows: Sequence[Mapping[str, Any]], query: str, top: int) -> list[Match]:
    """Return the clips that match best, best first; those of one score in their order."""
    wanted = list(dict.fromkeys(words(query)))
    documents = [written(row) for row in rows]
    counts = [Counter(word for each in document.values() for word in each) for document in documents]
    lengths = [sum(count.values()) for count in counts]
    mean = sum(lengths) / max(1, len(lengths)) or 1
    weights = {}
    for word in wanted:
        holders = sum(word in count for count in counts)
        weights[word] = math.log(1 + (len(rows) - holders + 0.5) / (holders + 0.5))
    found = []
    for row, (document, count, length) in enumerate(zip(documents, counts, lengths, strict=True)):
        damped = SATURATION * (1 - LENGTH + LENGTH * length / mean)
        score = sum(weights[word] * count[word] * (SATURATION + 1) / (count[word] + damped) for word in wanted)
        if score > 0:
            fields = {name: [word for word in wanted if word in held] for name, held in document.items()}
            found.append(Match(row=row, score=score, fields={name: held for name, held in fields.items() if held}))
    return sorted(found, key=lambda each: (-each.score, each.row))[:top]
