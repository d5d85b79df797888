"""Training on clips that processes share: the losses and gradients of one process, and a run that ends where its does."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from cosmos_diffusion import lora
from cosmos_posttrain import Parallel, ParallelConfig
from cosmos_posttrain.cli import main
from cosmos_tokenizer import InputError

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("shared_clips.py")
COMMANDS = Path(__file__).with_name("commands.py")
CLIPS = {"batches": [[24.0, 24.0]]}
MIXED: dict[str, Any] = {"batches": [[24.0, 12.0], [None] * 3, [12.0, 12.0]], "frames": 25}
RING, ULYSSES = ({"context": 2, "context_method": method} for method in ("ring", "ulysses"))
SHARDED = {"weights": "sharded"}
SAME: dict[str, dict[str, Any]] = {
    "ring": {"parallel": RING, **CLIPS},
    "ulysses": {"parallel": ULYSSES, **CLIPS},
    "ring, sharded": {"parallel": RING | SHARDED, **CLIPS},
    "ulysses, sharded": {"parallel": ULYSSES | SHARDED, **CLIPS},
    "ring, recomputing": {"parallel": RING | SHARDED | {"checkpointing": "full"}, **CLIPS},
    "ring, recomputing some": {"parallel": RING | SHARDED | {"checkpointing": "selective"}, **CLIPS},
    "ulysses, recomputing some": {"parallel": ULYSSES | {"checkpointing": "selective"}, **CLIPS},
    "ring, adapters": {"parallel": RING, "lora": 3, **CLIPS},
    "ulysses, sharded, adapters": {"parallel": ULYSSES | SHARDED | {"checkpointing": "full"}, "lora": 3, **CLIPS},
    "four latent frames": {"parallel": RING | SHARDED, "batches": [[24.0, 12.0], [12.0, 12.0]], "frames": 25},
}
"""Cases in which two processes draw what one draws."""


def launch(processes: int, script: Path, *given: str) -> None:
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *many, str(script), *given]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def together(place: Path, processes: int, cases: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """What each of so many processes found in each case."""
    place.mkdir()
    launch(processes, SCRIPT, str(place), json.dumps(cases))
    return {name: [torch.load(place / f"{name}-{rank}.pt") for rank in range(processes)] for name in cases}


@pytest.fixture(scope="module")
def alone() -> Any:
    """What this process finds in a case."""
    return runpy.run_path(str(SCRIPT))["run"]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    beside = {
        "pictures": {"parallel": RING | SHARDED, "batches": [[None] * 5]},
        "mixed": {"parallel": RING, **MIXED},
        "own clips": {"parallel": SHARDED, "batches": [[24.0, 12.0, 24.0, 24.0]]},
        "low": {"parallel": ULYSSES | {"precision": "bfloat16"}, "lora": 3, **CLIPS},
    }
    return together(tmp_path_factory.mktemp("shared") / "two", 2, SAME | beside)


def assert_same(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float = 1e-5) -> None:
    for mine, theirs in zip(found["scalars"], wanted["scalars"], strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    assert found["gradients"].keys() == wanted["gradients"].keys()
    for name, value in wanted["gradients"].items():
        difference = (found["gradients"][name] - value).abs().max()
        assert difference <= tolerance * value.abs().max() + 1e-7, name


@pytest.mark.parametrize("case", SAME)
def test_processes_that_share_clips_find_the_loss_and_gradients_of_one(
    case: str, two: dict[str, list[Any]], alone: Any
) -> None:
    wanted = alone(SAME[case])
    adapted = {name for name in wanted["gradients"] if name.endswith((".up", ".down")) and ".net." in f".{name}"}
    assert bool(adapted) == ("lora" in SAME[case])
    for found in two[case]:
        assert_same(found, wanted)
