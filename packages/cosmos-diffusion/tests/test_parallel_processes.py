"""Several processes against one: context parallelism and its gradients, guidance, weights shared out, all at once."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("spread.py")
VIEWS = {"config": {"views": 3, "position": "sincos"}, "inputs": {"batch": 1, "frames": 3}}
PER_FRAME = {"config": {"position": "none", "rope_fps": False}, "inputs": {"frames": 4, "per_frame": True}}
DECODER = {"config": {"token_channels": 8, "token_codes": 50, "camera_channels": 6, "action_numbers": 7}}
PATCHED = {"config": {"patch": [2, 2, 2], "condition_mask": False}, "inputs": {"frames": 6}}
WIDE = {"config": {"width": 72, "heads": 3, "trajectory_channels": 4, "views": 2, "position": "sincos"}}
RING, ULYSSES = {"context": 2, "method": "ring"}, {"context": 2, "method": "ulysses"}
TRAINED = {"gradients": True}
SHORT = {"inputs": {"batch": 1, "frames": 3}}
FLOW = {"position": "none", "rope_fps": False, "prediction": "flow"}

TWO: dict[str, dict[str, Any]] = {
    "ring": {"plan": RING, **TRAINED},
    "ulysses": {"plan": ULYSSES, **TRAINED},
    "ring, views": {"plan": RING, **VIEWS, **TRAINED},
    "ulysses, views": {"plan": ULYSSES, **VIEWS, **TRAINED},
    "ring, a level for each frame": {"plan": RING, **PER_FRAME, **TRAINED},
    "ring, a level for each frame, prepared": {"plan": RING, **PER_FRAME, "prepared": True},
    "ulysses, views, prepared": {"plan": ULYSSES, **VIEWS, "prepared": True},
    "ring, tokens, camera and action": {"plan": RING, **DECODER, **TRAINED},
    "ring, two frames a token": {"plan": RING, **PATCHED, **TRAINED},
    "ulysses, three heads": {"plan": ULYSSES, **WIDE, **TRAINED},
    "guidance": {"plan": {"guidance": 2}, **TRAINED},
    "sharded": {"plan": {**RING, "sharded": True}},
    "sharded, prepared": {"plan": {"guidance": 2, "sharded": True}, "prepared": True},
    "guided sample": {"plan": {"guidance": 2}, **SHORT, "sampled": 0},
    "guided sample, levels of frames": {"plan": {"guidance": 2}, "config": FLOW, **SHORT, "sampled": 0},
    "sample, ring, reused": {"plan": RING, **SHORT, "sampled": 1e9},
    "guided sample, views, sharded, reused": {"plan": {"guidance": 2, "sharded": True}, **VIEWS, "sampled": 0.4},
}
LOW: dict[str, dict[str, Any]] = {
    name: {"plan": plan, "dtype": "bfloat16", **TRAINED} for name, plan in (("ring", RING), ("ulysses", ULYSSES))
}
FOUR: dict[str, dict[str, Any]] = {
    "guided ring": {"plan": {"guidance": 2, **RING}, **TRAINED},
    "guided ulysses, views, sharded": {"plan": {"guidance": 2, "sharded": True, **ULYSSES}, **VIEWS, "prepared": True},
    "ring of four": {"plan": {"context": 4, "method": "ring"}, **TRAINED},
    "ulysses of four": {"plan": {"context": 4, "method": "ulysses"}, "config": {"heads": 4}, **TRAINED},
    "too short": {"plan": {"context": 4, "method": "ring"}, "inputs": {"frames": 3}, "refused": True},
}


def launch(out: Path, processes: int, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What each of so many processes found in each case."""
    out.mkdir()
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *many, str(SCRIPT), str(out), json.dumps(cases)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: [torch.load(out / f"{name}-{rank}.pt") for rank in range(processes)] for name in cases}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spread")


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What this process finds."""
    run = runpy.run_path(str(SCRIPT))["run"]
    return {name: run(case) for name, case in {**TWO, **FOUR}.items() if "refused" not in case}


@pytest.fixture(scope="module")
def two(place: Path) -> dict[str, list[Any]]:
    return launch(place / "two", 2, {**TWO, **{f"low {name}": case for name, case in LOW.items()}})


@pytest.fixture(scope="module")
def four(place: Path) -> dict[str, list[Any]]:
    return launch(place / "four", 4, FOUR)


def assert_same(found: list[dict[str, Any]], wanted: dict[str, Any]) -> None:
    for got in found:
        assert torch.equal(got["y"], found[0]["y"])
        torch.testing.assert_close(got["y"], wanted["y"], atol=1e-5, rtol=0)
    for name, value in wanted.get("gradients", {}).items():
        largest = float(value.abs().max())
        assert largest > 1e-3, name
        torch.testing.assert_close(found[0]["gradients"][name], value, atol=1e-5 * (1 + largest), rtol=0)


@pytest.mark.parametrize("case", TWO)
def test_two_processes_find_what_one_does(case: str, two: dict[str, list[Any]], alone: dict[str, Any]) -> None:
    assert_same(two[case], alone[case])


@pytest.mark.parametrize("case", [name for name, fields in FOUR.items() if "refused" not in fields])
def test_four_processes_find_what_one_does(case: str, four: dict[str, list[Any]], alone: dict[str, Any]) -> None:
    assert_same(four[case], alone[case])


@pytest.mark.parametrize("method", LOW)
def test_half_precision_is_near(method: str, two: dict[str, list[Any]], alone: dict[str, Any]) -> None:
    found, wanted = two[f"low {method}"], alone[method]
    assert found[0]["y"].dtype == torch.bfloat16
    assert torch.equal(found[0]["y"], found[1]["y"])
    assert (found[0]["y"].float() - wanted["y"]).abs().max() < 0.05 * wanted["y"].abs().max()


def test_processes_reuse_the_same_steps(two: dict[str, list[Any]], alone: dict[str, Any]) -> None:
    for case, least in (("sample, ring, reused", 3), ("guided sample, views, sharded, reused", 1)):
        assert {row["reused"] for row in two[case]} == {alone[case]["reused"]}
        assert alone[case]["reused"] >= least


def test_each_process_holds_its_part_of_the_blocks(two: dict[str, list[Any]], four: dict[str, list[Any]]) -> None:
    for found in (two["sharded"], two["sharded, prepared"], four["guided ulysses, views, sharded"]):
        assert sum(row["held"] for row in found) == found[0]["of"]
        assert all(row["held"] < 1.1 * row["of"] / len(found) for row in found)


def test_too_few_frames_are_refused_by_all_alike(four: dict[str, list[Any]]) -> None:
    for row in four["too short"]:
        assert row["error"].startswith("latents have 3 frames in tokens: 4 processes")
