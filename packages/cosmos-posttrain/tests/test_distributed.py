"""Two processes against one: DDP, FSDP2, both with recomputing, hybrid meshes, and checkpoints that change hands.

A small objective shows it for the loop, and a toy tokenizer with all its terms for the recipe.
"""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from cosmos_posttrain import Parallel, ParallelConfig
from cosmos_posttrain.cli import main
from cosmos_posttrain.networks.mobilenet import MobileNetV2
from cosmos_tokenizer import InputError, load

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

COMMANDS = Path(__file__).with_name("commands.py")
GAME: dict[str, Any] = {
    "data.crop": 32,
    "data.sides": [32],
    "data.frames": [17],
    "data.batch": 4,
    "data.images": 0.4,
    "data.image_batch": 8,
    "terms.perceptual": {"values": [0.1]},
    "terms.gram": {"values": [0.1]},
    "terms.consistency": {"values": [0.1]},
    "terms.window": 9,
    "terms.window_step": 8,
    "terms.adversarial": {"values": [0.0, 0.5], "boundaries": [2]},
    "terms.r1": 1.0,
    "terms.discriminator_width": 8,
    "terms.discriminator_layers": 2,
    "validation_clips": 1,
    "loop.steps": 4,
    "loop.optimizer.name": "sgd",
    "loop.optimizer.rate": 0.02,
    "loop.optimizer.options": {"momentum": 0.9},
    "loop.averages": [],
}
"""A toy tokenizer on clips and pictures, with every term but flow; the adversary comes in at step 3 of 4."""
DDP, FSDP = {"loop.parallel.weights": "replicated"}, {"loop.parallel.weights": "sharded"}
ACCUMULATING, DECODER = {"loop.accumulate": 2, "loop.steps": 3}, {"trained": "decoder", "loop.steps": 3}
GAMES: dict[str, dict[str, Any]] = {
    "ddp": DDP,
    "fsdp": FSDP,
    "fsdp, recomputing": {**FSDP, "loop.parallel.checkpointing": "full"},
    "fsdp, accumulating": {**FSDP, **ACCUMULATING},
    "ddp, decoder": {**DDP, **DECODER},
}
LOW_GAMES = {
    way: {**fields, "loop.parallel.precision": "bfloat16", "loop.steps": 3}
    for way, fields in {"ddp": DDP, "fsdp": FSDP}.items()
}

Weights = dict[str, Any]


def launch(processes: int, script: Path, *given: str) -> list[str]:
    """Lines that a script prints on so many processes; one is this one."""
    if processes == 1:
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
            patch.setattr(sys, "argv", [str(script), *given])
            runpy.run_path(str(script), run_name="__main__")
        return out.getvalue().splitlines()
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *many, str(script), *given]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def arguments(folder: Path, runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of the script: a folder and a config for each run."""
    return [text for name, fields in runs.items() for text in (str(folder / name), json.dumps(FIELDS | dict(fields)))]


def run(folder: Path, processes: int, runs: Mapping[str, Mapping[str, Any]], *options: str) -> dict[str, Weights]:
    """Trained weights of several runs, one after another, on so many processes."""
    lines = launch(processes, SCRIPT, *arguments(folder, runs), *options)
    return dict(zip(runs, map(json.loads, lines[-len(runs) :]), strict=True))


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in rows(folder)]


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
    return run(place / "together", 2, {**TWO, "low": LOW} | handed(3))


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


def test_four_processes_make_two_copies_of_two_parts(four: Weights, alone: dict[str, Weights]) -> None:
    assert_same(four, alone["plain"])


def handed(steps: int) -> dict[str, dict[str, Any]]:
    """Runs cut short after so many steps."""
    cut = {"steps": steps, "parallel": {"weights": "sharded"}}
    return {"handed plain": cut, "handed muon": {**cut, **MUON}, "handed late": {**cut, **LATE}}


def test_checkpoints_go_from_two_processes_to_one_and_back(
    together: dict[str, Weights], alone: dict[str, Weights], place: Path
) -> None:
    assert losses(place / "together/handed plain") == pytest.approx(losses(place / "alone/plain")[:3], abs=1e-5)
    run(place / "together", 1, {name: {**row, "parallel": {}} for name, row in handed(6).items()}, "--resume")
    got = run(place / "together", 2, handed(9), "--resume")
    for name in ("plain", "muon", "late"):
        assert_same(got[f"handed {name}"], alone[name])
        found, wanted = losses(place / f"together/handed {name}"), losses(place / "alone" / name)
        assert found == pytest.approx(wanted, abs=1e-5)


def test_a_mesh_that_does_not_fit_is_one_line() -> None:
    dist.init_process_group("fake", store=dist.HashStore(), rank=0, world_size=2)
    try:
        with pytest.raises(InputError, match="shard_over is 3: it must divide the 2 processes"):
            Parallel(ParallelConfig(weights="sharded", shard_over=3))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def material(place: Path) -> Path:
    """A pool of clips of 17 frames of 32x32, and a feature network without training."""
    rng = np.random.default_rng(0)
    for split, count in (("training", 8), ("development", 1)):
        coarse = rng.integers(0, 256, (count, 17, 8, 8, 3), dtype=np.uint8)
        np.save(place / f"{split}.npy", coarse.repeat(4, 2).repeat(4, 3))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(MobileNetV2().state_dict(), place / "mobilenet_v2.safetensors")
    return place


def game(material: Path, out: str, fields: Mapping[str, Any], *options: str) -> list[str]:
    """Arguments of the command that trains the toy tokenizer."""
    places = ["--data", str(material), "--networks", str(material), "--out", str(material / out)]
    changes = [f"--set={name}={json.dumps(value)}" for name, value in (GAME | dict(fields)).items()]
    return ["train", "tokenizer-toy", *places, *changes, *options]


@pytest.fixture(scope="module")
def game_alone(material: Path) -> Path:
    for out, fields in (("plain", {}), ("accumulating", ACCUMULATING), ("decoder", DECODER)):
        assert main(game(material, f"game alone/{out}", fields)) == 0
    return material / "game alone"


@pytest.fixture(scope="module")
def game_together(material: Path) -> Path:
    lines = [game(material, f"game together/{way}", fields) for way, fields in GAMES.items()]
    lines += [game(material, f"game together/low {way}", fields) for way, fields in LOW_GAMES.items()]
    lines += [game(material, "game together/handed", {**FSDP, "loop.steps": 2})]
    launch(2, COMMANDS, json.dumps(lines))
    return material / "game together"


@pytest.fixture(scope="module")
def four(material: Path, place: Path) -> Weights:
    """What four processes train, two copies of two parts; behind it, the game that they played lies in `game four`."""
    command = game(material, "game four", {**FSDP, "loop.parallel.shard_over": 2})
    script = [
        str(SCRIPT),
        *arguments(place / "four", {"hybrid": {"parallel": {"weights": "sharded", "shard_over": 2}}}),
    ]
    return json.loads(launch(4, COMMANDS, json.dumps([command]), *script)[-1])


def assert_same_figures(got: Sequence[Mapping[str, float]], wanted: Sequence[Mapping[str, float]]) -> None:
    assert len(got) == len(wanted)
    for mine, theirs in zip(got, wanted, strict=True):
        assert theirs.keys() <= mine.keys()
        for name in theirs.keys() - {"seconds", "grad_norm"}:
            assert mine[name] == pytest.approx(theirs[name], abs=1e-5), (name, theirs["step"])
        # The gradient of an absolute error jumps with its sign, which rounding turns where the error is nearly 0.
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def assert_same_models(got: Path, wanted: Path) -> None:
    one, other = (load(run / "model.safetensors").state_dict() for run in (got, wanted))
    for name, value in other.items():
        torch.testing.assert_close(one[name], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", GAMES)
def test_two_processes_play_the_tokenizers_game_as_one_does(way: str, game_together: Path, game_alone: Path) -> None:
    beside = next((name for name in ("accumulating", "decoder") if name in way), "plain")
    wanted = rows(game_alone / beside)
    assert {"perceptual", "gram", "consistency", "adversarial", "discriminator"} <= wanted[2].keys()
    assert wanted[1]["consistency"] > 0
    assert_same_figures(rows(game_together / way), wanted)
    assert_same_models(game_together / way, game_alone / beside)


def test_four_processes_play_the_game_on_two_copies_of_two_parts(
    four: Weights, material: Path, game_alone: Path
) -> None:
    assert_same_figures(rows(material / "game four"), rows(game_alone / "plain"))
    assert_same_models(material / "game four", game_alone / "plain")


@pytest.mark.parametrize("way", LOW_GAMES)
def test_low_precision_rounds_the_tokenizer_and_not_its_terms(way: str, game_together: Path, game_alone: Path) -> None:
    low, full = rows(game_together / f"low {way}"), rows(game_alone / "plain")[:3]
    for mine, theirs in zip(low, full, strict=True):
        for name in ("loss", "colour", "perceptual"):
            assert mine[name] != theirs[name]
            assert mine[name] == pytest.approx(theirs[name], rel=0.02)


def test_a_game_goes_from_two_processes_to_one_before_it_has_begun(
    material: Path, game_together: Path, game_alone: Path
) -> None:
    assert main(game(material, "game together/handed", {}, "--resume")) == 0
    assert_same_figures(rows(game_together / "handed"), rows(game_alone / "plain"))
    assert_same_models(game_together / "handed", game_alone / "plain")


def test_where_one_process_cannot_write_all_stop_with_the_reason(tmp_path: Path) -> None:
    launch(2, SCRIPT.with_name("failing_writer.py"), str(tmp_path), json.dumps(FIELDS))
    for name, reason in (("sum", "Input/output error"), ("limit", "File too large")):
        for rank in range(2):
            said = (tmp_path / f"{name}-{rank}.txt").read_text()
            assert f"{reason}: it is not written" in said
            assert said.endswith(f"{name}/checkpoints/step-3'")
        assert not any((tmp_path / name / "checkpoints").iterdir())
