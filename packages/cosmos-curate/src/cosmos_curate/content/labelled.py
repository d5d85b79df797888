"""A head from files: a curation's embeddings joined with labels, such as answers of a vision-language model."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from cosmos_curate.content.heads import Head
from cosmos_curate.content.kinds import KINDS
from cosmos_curate.content.training import HeadConfig, train_head
from cosmos_curate.errors import InputError
from cosmos_curate.manifest import from_parquet


def read_labels(path: Path) -> dict[str, str]:
    """Read `clip_id` and `label` from a csv file with a header, or from jsonl (one object a line).

    Raises:
        InputError: no such file, no such column, one clip with two labels, or no line at all.
    """
    if not path.is_file():
        raise InputError(f"no labels at {path}: give a csv or jsonl file with clip_id and label")
    labels: dict[str, str] = {}
    for number, row in rows(path):
        clip, label = row.get("clip_id"), row.get("label")
        if not isinstance(clip, str) or not isinstance(label, str) or not clip or not label.strip():
            raise InputError(f"{path}, line {number}: needs clip_id and label, both text")
        if labels.setdefault(clip, label.strip()) != label.strip():
            raise InputError(f"{path}, line {number}: clip {clip} has two labels")
    if not labels:
        raise InputError(f"{path} has no labels")
    return labels


def rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and fields of each line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(file)
                for row in reader:
                    yield reader.line_num, row
            elif path.suffix.lower() == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        row = json.loads(line)
                        yield number, row if isinstance(row, dict) else {}
            else:
                raise InputError(f"labels must be .csv or .jsonl, not {path.name}")
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from None


def read_embeddings(folder: Path) -> tuple[list[str], Float32[np.ndarray, "N D"]]:
    """Return ids and embeddings of a curation's output folder, in the order of the ids.

    Raises:
        InputError: the folder has none.
    """

    path = folder / "embeddings.parquet"
    if not path.exists():
        raise InputError(f"no {path}: give the output folder of `cosmos-curate run`")
    table = from_parquet(path.read_bytes()).select(["clip_id", "embedding"])
    table = table.filter(table["embedding"].is_valid()).sort_by("clip_id")
    if not len(table):
        raise InputError(f"{path} holds no embedding")
    width = table.schema.field("embedding").type.list_size
    numbers = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return table["clip_id"].to_pylist(), numbers.astype(np.float32).reshape(len(table), width)


def read_sources(folder: Path) -> dict[str, str]:
    """Return the source video of each clip by the folder's manifest; empty without one."""
    import pyarrow.parquet as parquet

    for path in (folder / "manifest.parquet", folder / "manifest"):
        if path.exists():
            table = parquet.read_table(path, columns=["clip_id", "source_sha256"])
            return dict(zip(table["clip_id"].to_pylist(), table["source_sha256"].to_pylist(), strict=True))
    return {}


def train_head_file(
    output_folder: Path, labels: Path, out: Path, *, kind: str | None = None, config: HeadConfig | None = None
) -> tuple[Head, dict[str, Any]]:
    """Train a head on a curation's embeddings and a file of labels, write it to `out`, and return head and report.

    Clips of one source video stay on one side of the split. Labelled clips without an embedding are counted in the
    report as `unmatched`.

    Args:
        kind: of KINDS, whose labels alone are then allowed; any labels if None.

    Raises:
        InputError: a file is missing or wrong, or a label is not of the kind.
    """
    answers = read_labels(labels)
    if kind is not None:
        if kind not in KINDS:
            raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
        if unknown := sorted(set(answers.values()) - set(KINDS[kind])):
            raise InputError(f"{labels}: {unknown[0]!r} is no label of kind {kind}: use {', '.join(KINDS[kind])}")
    ids, embeddings = read_embeddings(output_folder)
    chosen = [row for row, clip in enumerate(ids) if clip in answers]
    if not chosen:
        raise InputError(f"no clip_id of {labels} is in {output_folder}")
    clips = [ids[row] for row in chosen]
    sources = read_sources(output_folder)
    head, report = train_head(
        embeddings[chosen],
        [answers[clip] for clip in clips],
        config,
        groups=[sources.get(clip) or clip for clip in clips],
        provenance={"kind": kind},
    )
    head.save(out)
    return head, {**report, "unmatched": len(answers) - len(chosen), "file": str(out), "sha256": head.sha256}
