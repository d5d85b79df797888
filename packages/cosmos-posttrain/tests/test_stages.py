"""Recipes of the released networks: published numbers, stages in a row, and adapters trained on a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.checkpoint.filesystem import FileSystemReader

from cosmos_diffusion import PRESETS, WorldModel, convert, load, lora, save
from cosmos_diffusion.embedding_files import Embedding, write_embedding
from cosmos_posttrain import Average, Parallel, Schedule
from cosmos_posttrain.cli import main
from cosmos_posttrain.data.buckets import frame_size
from cosmos_posttrain.recipes import RECIPES, DiffusionRecipe, stages
from cosmos_posttrain.recipes.stages import RECIPES as STAGES

NETWORKS = [f"{size}-{kind}" for size in ("7b", "14b") for kind in ("text2world", "video2world")]
PUBLISHED = {
    "7b": {"rate": 2**-14.3, "eps": 1e-10, "weight_decay": 0.1, "shards": 32, "checkpointing": "full"},
    "14b": {"rate": 2**-16.0, "eps": 1e-11, "weight_decay": 0.2, "shards": 64, "checkpointing": "selective"},
}


def recipe_of(name: str) -> DiffusionRecipe:
    recipe = RECIPES[name]
    assert isinstance(recipe, DiffusionRecipe)
    return recipe


@pytest.mark.parametrize("network", NETWORKS)
def test_stages_have_the_published_numbers(network: str) -> None:
    size = network.split("-")[0]
    wanted = PUBLISHED[size]
    stages = [recipe_of(f"{network}-{stage}") for stage in ("512p57f", "720p121f", "high-quality")]
    for stage in stages:
        optimizer, parallel = stage.loop.optimizer, stage.loop.parallel
        assert stage.preset == network
        assert (optimizer.name, optimizer.rate) == ("adamw", wanted["rate"])
        options = {name: wanted[name] for name in ("eps", "weight_decay")}
        assert optimizer.options == {"betas": (0.9, 0.99), **options}
        assert (parallel.weights, parallel.shard_over) == ("sharded", wanted["shards"])
        assert parallel.checkpointing == wanted["checkpointing"]
        assert [average.width for average in stage.loop.averages] == [0.1, 0.05, 0.025]
        (frames,), latents = stage.data.frames, (stage.data.frames[0] - 1) // 8 + 1
        assert latents % parallel.context == wanted["shards"] % parallel.context == 0
        assert stage.data.image_batch == latents * stage.data.batch
        for aspect in (9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9):
            height, width = frame_size(stage.data.sides[0], aspect, stage.data.multiple)
            grid = PRESETS[network].grid
            assert frames <= 8 * grid[0]
            assert max(height // 8, width // 8) <= min(grid[1:])
    early, late, best = stages
    decay = {"shape": "linear", "final": 0.1} if size == "14b" else {}
    assert early.loop.schedule == late.loop.schedule == Schedule(warmup=2500, **decay)
    assert (early.data.frames, early.data.sides) == ((57,), (512,))
    assert (late.data.frames, late.data.sides) == ((121,), (704,)) == (best.data.frames, best.data.sides)
    assert best.loop.schedule == Schedule(shape="linear", final=0.0)
    assert best.loop.steps == 10_000


@pytest.mark.parametrize("name", STAGES)
def test_two_copies_of_the_published_shards_share_out_a_batch(name: str) -> None:
    recipe = recipe_of(name)
    shards, context = recipe.loop.parallel.shard_over, recipe.loop.parallel.context
    world = 2 * shards or 4
    dist.init_process_group("fake", store=dist.HashStore(), rank=world - 1, world_size=world)
    try:
        parallel = Parallel(recipe.loop.parallel)
    finally:
        dist.destroy_process_group()
    assert parallel.mesh is not None
    assert parallel.mesh.shape == ((2, shards) if shards else (4, 1))
    assert (parallel.share, parallel.shares) == (world // context - 1, world // context)
    for batch in (recipe.data.batch, recipe.data.image_batch or parallel.shares):
        assert batch % parallel.shares == 0


@pytest.mark.parametrize("network", NETWORKS[:2])
def test_adapters_have_the_published_numbers(network: str) -> None:
    recipe = recipe_of(f"{network}-lora")
    assert recipe.lora == lora.PRESETS["predict1"]
    assert recipe.loop.optimizer.rate == 1e-4
    assert recipe.loop.schedule.warmup == 0
    assert (recipe.loop.parallel.weights, recipe.loop.parallel.context) == ("replicated", 4)
    assert frame_size(recipe.data.sides[0], 16 / 9, recipe.data.multiple) == (480, 848)
    assert not any(f"{name}-lora" in STAGES for name in NETWORKS[2:])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 9 frames with captions, embeddings of those, and a checkpoint as diffusers has it."""
    place = tmp_path_factory.mktemp("adapted")
    (place / "clips").mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        coarse = rng.integers(0, 256, (3, 4, 4, 3), np.uint8)
        np.save(place / f"clips/clip-{index}.npy", coarse.repeat(3, 0).repeat(8, 1).repeat(8, 2))
        (place / f"clips/clip-{index}.txt").write_text(f"a ball number {index}")
        embedding = Embedding(text=torch.randn(4 + index, 32), prompt=f"a ball number {index}")
        write_embedding(place / "text" / f"{index}.safetensors", embedding)
    torch.manual_seed(0)
    world = WorldModel(replace(PRESETS["toy-video"], blocks=3))
    for parameter in world.net.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    save(world, place / "world.safetensors")
    convert(place / "world.safetensors", place / "released", to="diffusers")
    return place


def train(place: Path, out: str, *more: str, **changes: object) -> int:
    """A recipe of adapters, on a toy."""
    fields = {
        "tokenizer": "nano-cv8x8x8",
        "data.frames": [9],
        "data.sides": [32],
        "data.crop": 32,
        "data.batch": 2,
        "loss": {"levels": {}, "given": [0, 1]},
        "loop.parallel.context": 1,
        "loop.optimizer.rate": 0.01,
        "loop.averages": [{"decay": 0.5}, {"width": 0.1}],
        "loop.save_every": 2,
        "validation_clips": 1,
        "storage": "float32",
    }
    settings = [f"--set={name}={json.dumps(value)}" for name, value in (fields | changes).items()]
    places = ["--data", str(place / "clips"), "--embeddings", str(place / "text"), "--out", str(place / out)]
    return main(["train", "7b-video2world-lora", *places, *settings, *more])


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    assert train(place, "run", "--steps", "4", "--init", str(place / "released")) == 0
    return place / "run"


@pytest.mark.parametrize("suffix", ["", f"-{Average(width=0.1).name}"])
def test_adapters_lie_beside_the_model_that_they_are_merged_into(place: Path, trained: Path, suffix: str) -> None:
    adapted = load(place / "released")
    base = {name: value.clone() for name, value in adapted.state_dict().items()}
    assert lora.load(adapted, trained / f"adapter{suffix}.safetensors") == lora.PRESETS["predict1"]
    assert len(lora.layers(adapted)) == 4 * 3
    assert all(layer.up.abs().max() > 1e-4 for layer in lora.layers(adapted).values())
    lora.merge(adapted)
    merged = load(trained / f"model{suffix}.safetensors")
    changed = set()
    for name, value in adapted.net.state_dict().items():
        found = merged.net.state_dict()[name]
        assert found.dtype == torch.bfloat16  # the frozen weights of a run in half precision have its digits
        torch.testing.assert_close(found.float(), value, atol=2**-12, rtol=2**-7)
        if not torch.equal(found, base[f"net.{name}"].bfloat16()):
            changed.add(name)
    assert changed == {f"{name.removeprefix('net.')}.weight" for name in lora.layers(adapted)}


def test_a_resumed_run_of_adapters_ends_with_the_same_bits(place: Path, trained: Path) -> None:
    init = ("--init", str(place / "released"))
    assert train(place, "again", "--steps", "2", *init) == 0
    assert train(place, "again", "--steps", "4", "--resume", *init) == 0
    for file in ("model", "adapter", "model-width-0.1"):
        ours, whole = (load_file(run / f"{file}.safetensors") for run in (place / "again", trained))
        assert ours.keys() == whole.keys()
        for name, value in whole.items():
            assert torch.equal(ours[name], value), (file, name)
    held = FileSystemReader(trained / "checkpoints" / "step-4").read_metadata().state_dict_metadata
    assert {name.split(".")[-1] for name in held if "net." in name} >= {"down", "up"}
    assert not any(".base." in name or "patch" in name for name in held)
    assert any(name.startswith("parameters.uncertainty.") for name in held)


def test_adapters_in_float32_leave_all_other_bits(place: Path) -> None:
    more = {"loop.parallel.precision": "float32", "loop.averages": []}
    assert train(place, "exact", "--steps", "1", "--init", str(place / "released"), **more) == 0
    adapted, merged = load(place / "released"), load(place / "exact" / "model.safetensors")
    lora.load(adapted, place / "exact" / "adapter.safetensors")
    lora.merge(adapted)
    for name, value in adapted.net.state_dict().items():
        assert torch.equal(merged.net.state_dict()[name], value), name


def test_adapters_without_a_checkpoint_are_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(place, "none") == 2
    assert "lora is given, and init is not: give a checkpoint to adapt (--init)" in capsys.readouterr().err
    assert train(place, "none", **{"lora.targets": ["attn.q"]}) == 2
    assert "lora.targets has 'attn.q'" in capsys.readouterr().err


def test_a_finished_stage_is_sampled_as_it_was_trained() -> None:
    for name, recipe in stages.RECIPES.items():
        defaults = recipe.defaults
        assert defaults is not None, name
        assert (defaults.frames, defaults.height) == (recipe.data.frames[0], recipe.data.sides[0]), name
        assert defaults.width % 16 == 0
        assert abs(defaults.width / defaults.height - 16 / 9) < 0.02, name
