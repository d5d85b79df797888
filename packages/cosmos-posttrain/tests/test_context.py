"""Training on clips that processes share: losses and gradients of one process, and runs that end where its do."""

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

from cosmos_posttrain import Parallel, ParallelConfig
from cosmos_posttrain.cli import main
from cosmos_tokenizer import InputError

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("shared_clips.py")
COMMANDS = Path(__file__).with_name("commands.py")
CLIPS = {"batches": [[24.0, 24.0]]}
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


PICTURES = {"batches": [[None] * 5]}
RATES = {"batches": [[24.0, 12.0, 24.0, 24.0], [24.0, 24.0]]}
MIXED = {"batches": [[24.0, 12.0], [None, None], [12.0, 12.0]], "frames": 9}
APART: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "pictures": (PICTURES, [{"rank": rank, "config": {"context": 2}} for rank in range(2)]),
    "few pictures": ({"batches": [[None]]}, [{}]),
    "clips and pictures": (MIXED, [{"rank": rank, "config": {"context": 2}} for rank in range(2)]),
    "a rate that one process alone has": (RATES, [{"share": share, "shares": 2} for share in range(2)]),
}
"""Cases in which each process draws noise of its own, and as what this process finds what each does."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    beside = {
        name: {"parallel": SHARDED | ({} if "rate" in name else RING), **case} for name, (case, _) in APART.items()
    }
    low = {"parallel": ULYSSES | {"precision": "bfloat16"}, "lora": 3, **CLIPS}
    return together(tmp_path_factory.mktemp("shared") / "two", 2, SAME | beside | {"low": low})


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
    assert ("net.blocks.1.cross_attention.v.up" in wanted["gradients"]) == ("lora" in SAME[case])
    assert ("net.patch.weight" in wanted["gradients"]) != ("lora" in SAME[case])
    first, second = two[case]
    assert_same(first, wanted)
    assert_same(second, wanted)
    tokens = zip(wanted["tokens"], first["tokens"], second["tokens"], strict=False)  # passes done again come last
    for every, some, others in tokens:
        assert some + others == every
        assert abs(some - others) <= 4  # of one latent frame


@pytest.mark.parametrize("case", APART)
def test_processes_with_samples_of_their_own_find_the_mean(case: str, two: dict[str, list[Any]], alone: Any) -> None:
    fields, places = APART[case]
    parts = [alone({"parallel": {}, **fields, "place": place}) for place in places]
    gradients = {
        name: torch.stack([part["gradients"][name] for part in parts]).mean(0) for name in parts[0]["gradients"]
    }
    scalars = [
        {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        for rows in zip(*(part["scalars"] for part in parts), strict=True)
    ]
    for found in two[case]:
        assert_same(found, {"scalars": scalars, "gradients": gradients})


@pytest.mark.parametrize(("context", "count"), [(2, 5), (3, 3), (4, 9)])
def test_each_picture_is_one_process_own_and_counts_as_any_other(context: int, count: int) -> None:
    values, loss, draws, taken = torch.randn(count), 0.0, set(), []
    for rank in range(2 * context, 3 * context):
        parallel = Parallel(ParallelConfig())
        parallel.config, parallel.rank = ParallelConfig(context=context), rank
        torch.manual_seed(3)
        own, factor, generator = parallel.own_pictures(count)
        loss += values[own].mean().item() * factor / context
        taken += range(count)[own]
        draws.add(torch.rand((), generator=generator).item())
        assert parallel.own_pictures(context - 1) == (slice(None), 1.0, None)
    assert sorted(taken) == list(range(count))
    assert loss == pytest.approx(values.mean().item(), abs=1e-6)
    assert len(draws) == context


def test_passes_in_half_precision_are_near(two: dict[str, list[Any]], alone: Any) -> None:
    wanted = alone({"parallel": {}, "lora": 3, **CLIPS})
    for found in two["low"]:
        assert_same(found, wanted, 0.1)


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_recomputing_changes_no_gradient(checkpointing: str, alone: Any) -> None:
    plain, again = (alone({"parallel": {"checkpointing": way}, "lora": 2, **CLIPS}) for way in ("none", checkpointing))
    assert again["scalars"] == plain["scalars"]
    for name, value in plain["gradients"].items():
        assert torch.equal(again["gradients"][name], value), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of 9 frames with captions, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for index in range(4):
        coarse = rng.integers(0, 256, (3, 4, 4, 3), np.uint8)
        np.save(folder / f"clip-{index}.npy", coarse.repeat(3, 0).repeat(8, 1).repeat(8, 2))
        (folder / f"clip-{index}.txt").write_text(f"a ball number {index}")
    (folder / "clip-9.npy").write_bytes(b"not an array")
    return folder


SMALL = {
    "data.frames": [9],
    "data.crop": 32,
    "data.sides": [32],
    "data.batch": 2,
    "loss": {"levels": {}, "given": [0, 1]},
    "loop.optimizer": {"name": "sgd", "rate": 0.01},
    "loop.averages": [],
    "loop.save_every": 2,
    "validation_clips": 1,
    "storage": "float32",
}
STAGE = {
    "preset": "toy-video",
    "tokenizer": "nano-cv8x8x8",
    "data.images": 0.0,
    "loop.parallel.shard_over": 2,
    "loop.parallel.context": 2,
    "loop.parallel.precision": "float32",
}


def command(recipe: str, folder: Path, out: Path, *more: str, **changes: object) -> list[str]:
    settings = [f"--set={name}={json.dumps(value)}" for name, value in (SMALL | changes).items()]
    return ["train", recipe, "--data", str(folder), "--out", str(out), *settings, *more]


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_runs_that_share_clips_end_where_one_process_does_and_hand_over_to_it(folder: Path, tmp_path: Path) -> None:
    def toy(out: str, steps: int, *more: str, **changes: object) -> list[str]:
        return command("diffusion-toy", folder, tmp_path / out, "--steps", str(steps), *more, **changes)

    def stage(out: str, changes: dict[str, Any]) -> list[str]:
        return command("7b-video2world-high-quality", folder, tmp_path / out, "--steps", "2", **(STAGE | changes))

    sharing = {"loop.parallel.context": 2, "loop.parallel.weights": "sharded"}
    shared = [toy("two", 2, **sharing), toy("two", 4, "--resume", **sharing), stage("stage two", {})]
    launch(2, COMMANDS, json.dumps(shared))
    one = {"loop.parallel.context": 1}
    assert main(toy("one", 4)) == 0
    assert main(stage("stage one", one)) == 0
    assert main(toy("two", 5, "--resume")) == 0
    assert main(toy("one", 5, "--resume")) == 0
    assert {row["skipped"] for row in rows(tmp_path / "two")} == {1}
    for two, alone in (("two", "one"), ("stage two", "stage one")):
        for mine, theirs in zip(rows(tmp_path / two), rows(tmp_path / alone), strict=True):
            for name in theirs.keys() - {"seconds"}:
                assert mine[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), (name, theirs["step"])
        ours, wanted = (load_file(tmp_path / name / "model.safetensors") for name in (two, alone))
        assert ours.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=0, msg=name)


def test_a_context_that_does_not_fit_is_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(InputError, match="context is 0: give a number"):
        ParallelConfig(context=0)
    dist.init_process_group("fake", store=dist.HashStore(), rank=0, world_size=4)
    try:
        with pytest.raises(InputError, match="context is 3: it must divide the 4 processes"):
            Parallel(ParallelConfig(context=3))
    finally:
        dist.destroy_process_group()
    arguments = command("diffusion-toy", folder, tmp_path / "run", **{"loop.parallel.context": 2})
    assert main(arguments) == 2
    assert "context is 2: it must divide the 1 processes" in capsys.readouterr().err
    arguments = ["train", "tokenizer-toy", "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--set", "loop.parallel.context=2"]) == 2
    assert "a tokenizer takes whole clips" in capsys.readouterr().err
