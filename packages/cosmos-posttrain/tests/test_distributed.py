"""Two processes against one: DDP, FSDP2, both with recomputing, hybrid meshes, and checkpoints that change hands."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("line.py")
FIELDS: dict[str, Any] = {
    "steps": 9,
    "optimizer": {"name": "adamw", "rate": 0.01, "options": {"weight_decay": 0.1}},
    "schedule": {"warmup": 3},
    "averages": [{"decay": 0.9}, {"width": 0.1}],
    "clip": 0.3,
    "save_every": 3,
    "validate_every": 5,
    "parallel": {},
}
LATE = {"late": 5}
MUON = {"optimizer": {"name": "muon", "rate": 0.01}}
TWO: dict[str, dict[str, Any]] = {
    "ddp": {"parallel": {"weights": "replicated"}},
    "ddp, recomputing": {"parallel": {"weights": "replicated", "checkpointing": "full"}},
    "fsdp": {"parallel": {"weights": "sharded"}},
    "fsdp, recomputing": {"parallel": {"weights": "sharded", "checkpointing": "full"}},
    "fsdp, recomputing some": {"parallel": {"weights": "sharded", "checkpointing": "selective"}},
    "fsdp, two copies": {"parallel": {"weights": "sharded", "shard_over": 1}},
    "ddp, accumulating": {"parallel": {"weights": "replicated"}, "accumulate": 2},
    "fsdp, accumulating": {"parallel": {"weights": "sharded"}, "accumulate": 2},
    "fsdp, muon": {"parallel": {"weights": "sharded"}, **MUON},
}
LOW = {"parallel": {"weights": "sharded", "precision": "bfloat16"}, "steps": 30}

Weights = dict[str, Any]


def run(folder: Path, processes: int, runs: Mapping[str, Mapping[str, Any]], *options: str) -> dict[str, Weights]:
    """Trained weights of several runs, one after another, on so many processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    given = [text for name, fields in runs.items() for text in (str(folder / name), json.dumps(FIELDS | dict(fields)))]
    command = [sys.executable, *launch, str(SCRIPT), *given, *options]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(zip(runs, map(json.loads, done.stdout.splitlines()[-len(runs) :]), strict=True))


def losses(folder: Path) -> list[float]:
    return [json.loads(text)["loss"] for text in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(got: Weights, wanted: Weights) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(torch.tensor(got[name]), torch.tensor(value), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, Weights]:
    """What one process trains: as it is, accumulating, with Muon, and with a module that comes late."""
    return run(place / "alone", 1, {"plain": {}, "accumulating": {"accumulate": 2}, "muon": MUON, "late": LATE})


@pytest.fixture(scope="module")
def together(place: Path) -> dict[str, Weights]:
    """What two processes train in each way."""
    return run(place / "together", 2, {**TWO, "low": LOW})


@pytest.mark.parametrize("way", TWO)
def test_two_processes_train_what_one_does(
    way: str, together: dict[str, Weights], alone: dict[str, Weights], place: Path
) -> None:
    beside = next((name for name in ("accumulating", "muon") if name in way), "plain")
    assert_same(together[way], alone[beside])
    assert losses(place / "together" / way) == pytest.approx(losses(place / "alone" / beside), abs=1e-5)


def test_low_precision_trains_sharded(together: dict[str, Weights], place: Path) -> None:
    found = losses(place / "together" / "low")
    assert found[-1] < 0.8 * found[0]


def test_four_processes_make_two_copies_of_two_parts(alone: dict[str, Weights], place: Path) -> None:
    fields = {"parallel": {"weights": "sharded", "shard_over": 2}}
    assert_same(run(place / "four", 4, {"hybrid": fields})["hybrid"], alone["plain"])


def test_checkpoints_go_from_two_processes_to_one_and_back(alone: dict[str, Weights], place: Path) -> None:
    fields = {"plain": {}, "muon": MUON, "late": LATE}
    sharded = {name: {**row, "parallel": {"weights": "sharded"}} for name, row in fields.items()}
    run(place / "handed", 2, {name: {**row, "steps": 3} for name, row in sharded.items()})
    run(place / "handed", 1, {name: {**row, "steps": 6} for name, row in fields.items()}, "--resume")
    got = run(place / "handed", 2, sharded, "--resume")
    for name in fields:
        assert_same(got[name], alone[name])
        assert losses(place / "handed" / name) == pytest.approx(losses(place / "alone" / name), abs=1e-5)


def test_a_mesh_that_does_not_fit_is_one_line(place: Path) -> None:
    with pytest.raises(AssertionError, match="shard_over is 3: it must divide the 2 processes"):
        run(place / "odd", 2, {"odd": {"parallel": {"weights": "sharded", "shard_over": 3}}})


def test_where_one_process_cannot_write_all_stop_with_the_reason(tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *launch, str(SCRIPT.with_name("failing_writer.py")), str(tmp_path), json.dumps(FIELDS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]
    for run, reason in (("sum", "Input/output error"), ("limit", "File too large")):
        for rank in range(2):
            said = (tmp_path / f"{run}-{rank}.txt").read_text()
            assert f"{reason}: it is not written" in said
            assert said.endswith(f"{run}/checkpoints/step-3'")
        assert not any((tmp_path / run / "checkpoints").iterdir())
