"""Weights & Biases: what is logged, which run it goes to, and what is said where it is missing."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wandb

from cosmos_posttrain import LoopConfig, OptimizerConfig, train
from cosmos_tokenizer import InputError

FIELDS: dict[str, Any] = {"steps": 13, "optimizer": {"name": "adamw", "rate": 0.01}, "wandb": "tests"}


def silent(line: str) -> None:
    pass


def test_figures_go_to_wandb_too(line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    logged: list[tuple[int, dict[str, float]]] = []
    log = wandb.Run.log

    def recorded(run: wandb.Run, figures: dict[str, float], step: int) -> None:
        logged.append((step, figures))
        log(run, figures, step=step)

    monkeypatch.setattr(wandb.Run, "log", recorded)
    train(line.Line(), line.PointStream(), line.config_of(FIELDS), tmp_path / "run", say=silent)
    assert len(list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))) == 1
    assert [step for step, _ in logged] == list(range(1, 14))
    losses = [json.loads(text)["loss"] for text in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [figures["loss"] for _, figures in logged] == losses


def test_runs_of_one_name_are_apart_in_wandb_and_a_resumed_one_is_itself(
    line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []

    class Silent:
        log = finish = staticmethod(lambda *given, **named: None)

    monkeypatch.setattr(wandb, "init", lambda **given: begun.append(given) or Silent())
    monkeypatch.chdir(tmp_path)
    for run, steps in (("a/toy", 2), ("b/toy", 2), ("a/toy", 3), (".", 2)):
        config = line.config_of(FIELDS | {"steps": steps})
        train(line.Line(), line.PointStream(), config, Path(run), resume=True, say=silent)
    first, second, resumed, here = (given["id"] for given in begun)
    assert resumed == first
    assert len({first, second, here}) == 3
    assert [given["name"] for given in begun] == ["toy", "toy", "toy", tmp_path.name]


def test_wandb_that_is_missing_is_one_line_that_names_the_extra(
    line: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = LoopConfig(steps=1, optimizer=OptimizerConfig(rate=0.1), wandb="project")
    with pytest.raises(InputError, match=r"pip install 'cosmos-posttrain\[wandb\]'"):
        train(line.Line(), line.PointStream(), config, tmp_path, say=silent)
