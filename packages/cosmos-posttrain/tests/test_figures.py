"""What the loop tells of its steps: averages and counts, validation in the run's precision, and where samples are."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cosmos_posttrain import Parallel, ParallelConfig, loop, train

FIELDS: dict[str, Any] = {"steps": 2, "optimizer": {"name": "adamw", "rate": 0.01}}


def silent(line: str) -> None:
    pass


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_process_names_the_file_with_the_samples(
    line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(Parallel):
        def __init__(self, config: ParallelConfig) -> None:
            super().__init__(config)
            self.rank = 1

    monkeypatch.setattr(loop, "Parallel", Second)
    objective = line.Line()
    objective.loss = lambda batch, step: {"loss": objective.module(batch.x).mean() * float("nan")}
    config = line.config_of(FIELDS | {"most_not_finite": 0})
    with pytest.raises(FloatingPointError, match=r"nonfinite/step-1\.json names the samples"):
        train(objective, line.PointStream(), config, tmp_path, say=silent)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_validation_is_in_the_precision_of_the_run(precision: str, line: ModuleType, tmp_path: Path) -> None:
    objective, seen = line.Line(), []
    objective.validate = lambda: seen.append(objective.module(torch.ones(2, 6)).dtype) or {}
    config = line.config_of(FIELDS | {"steps": 1, "parallel": {"precision": precision}})
    train(objective, line.PointStream(), config, tmp_path, say=silent)
    assert seen == [getattr(torch, precision)]


def test_floats_are_averaged_over_the_batches_of_a_step_and_counts_are_the_last(
    line: ModuleType, tmp_path: Path
) -> None:
    objective, stream = line.Line(), line.PointStream()
    loss = objective.loss
    objective.loss = lambda batch, step: {
        **loss(batch, step),
        "float": torch.tensor(float(stream.position)),
        "count": torch.tensor(stream.position),
    }
    train(objective, stream, line.config_of(FIELDS | {"steps": 2, "accumulate": 2}), tmp_path, say=silent)
    assert [(row["float"], row["count"]) for row in rows(tmp_path)] == [(1.5, 2), (3.5, 4)]
