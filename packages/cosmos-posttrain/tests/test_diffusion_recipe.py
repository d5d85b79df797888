"""`train diffusion-toy`: clips and captions in, a world model out; resumed, begun from a file, told what is bad."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cosmos_diffusion import PRESETS, load, save
from cosmos_diffusion.embedding_files import Embedding, write_embedding
from cosmos_diffusion.loss import LOSSES, LossConfig, diffusion_loss
from cosmos_diffusion.world_model import WorldModel
from cosmos_posttrain.cli import main
from cosmos_posttrain.data import Batch
from cosmos_posttrain.parallel import Parallel, ParallelConfig
from cosmos_posttrain.recipes.denoising import Denoising, Shown
from cosmos_posttrain.recipes.diffusion import RECIPES
from cosmos_posttrain.recipes.latents import Latents, measure_domains
from cosmos_tokenizer import load as load_tokenizer

SMALL = ("data.frames=[9]", "data.crop=32", "data.sides=[32]", "loss.given=[0,1]", "validation_clips=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of 9 frames with captions, one of them without."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for index in range(6):
        coarse = rng.integers(0, 256, (3, 4, 4, 3), np.uint8)
        np.save(folder / f"clip-{index}.npy", coarse.repeat(3, 0).repeat(8, 1).repeat(8, 2))
        if index:
            (folder / f"clip-{index}.txt").write_text(f"a ball number {index}")
    return folder


def train(folder: Path, out: Path, *more: str, changes: Sequence[str] = ()) -> int:
    settings = [word for change in (*SMALL, *changes) for word in ("--set", change)]
    return main(["train", "diffusion-toy", "--data", str(folder), "--out", str(out), *settings, *more])


def logged(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    assert train(folder, out, "--steps", "4", changes=["loop.save_every=2"]) == 0
    return out


def test_the_finished_file_is_a_world_model_with_all_that_it_needs(trained: Path) -> None:
    world = load(trained / "model.safetensors")
    assert world.config == PRESETS["toy-video"]
    assert world.text_encoder is not None
    assert world.domains is not None
    assert world.defaults == RECIPES["diffusion-toy"].defaults
    assert load_file(trained / "model.safetensors")["net.patch.weight"].dtype == torch.float16
    (last,) = [line for line in logged(trained) if line["step"] == 4]
    assert {"loss", "error", "uncertainty", "validation_error", "psnr", "psnr_copied", "skipped"} <= last.keys()
    assert list((trained / "samples").iterdir())


def test_a_resumed_run_ends_with_the_same_bits(folder: Path, trained: Path, tmp_path: Path) -> None:
    assert train(folder, tmp_path / "run", "--steps", "2", changes=["loop.save_every=2"]) == 0
    assert train(folder, tmp_path / "run", "--steps", "4", "--resume", changes=["loop.save_every=2"]) == 0
    ours, whole = (load_file(path / "model.safetensors") for path in (tmp_path / "run", trained))
    assert ours.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.equal(ours[name], value), name


def test_training_goes_on_from_a_file(folder: Path, trained: Path, tmp_path: Path) -> None:
    before = load(trained / "model.safetensors")
    source = str(trained / "model.safetensors")
    changes = ["loop.optimizer.rate=1e-9", "storage=float32", "loop.averages=[]"]
    assert train(folder, tmp_path / "run", "--steps", "1", "--init", source, changes=changes) == 0
    after = load(tmp_path / "run" / "model.safetensors")
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value, atol=1e-7, rtol=0, msg=name)
    assert not (tmp_path / "run" / "statistics.json").exists()  # they are the file's


def test_a_file_with_another_text_encoder_is_refused(
    folder: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(trained / "model.safetensors")
    more = ("--steps", "1", "--init", source)
    assert train(folder, tmp_path / "run", *more, changes=["text_encoder.layers=2"]) == 2
    error = capsys.readouterr().err
    assert "text_encoder is ByteEncoderConfig(" in error
    assert f"and {source} has ByteEncoderConfig(" in error
    assert "layers=1" in error
    assert "layers=2" in error
    assert error.count("\n") == 1
    assert train(folder, tmp_path / "run", *more, changes=["text_encoder=null"]) == 0
    assert load(tmp_path / "run" / "model.safetensors").text_encoder.config == load(source).text_encoder.config


def test_embeddings_stand_for_captions(folder: Path, tmp_path: Path) -> None:
    for index in range(1, 6):
        embedding = Embedding(text=torch.randn(index, 32), prompt=f"a ball number {index}")
        write_embedding(tmp_path / "text" / f"{index}.safetensors", embedding)
    changes = ["text_encoder=null"]
    more = ("--steps", "2", "--embeddings", str(tmp_path / "text"), "--validation", str(folder))
    assert train(folder, tmp_path / "run", *more, changes=changes) == 0
    assert load(tmp_path / "run" / "model.safetensors").text_encoder is None


def objective(**changes: object) -> Denoising:
    torch.manual_seed(0)
    codec = load_tokenizer("nano-cv8x8x8")
    recipe = RECIPES["diffusion-toy"]
    world = WorldModel(PRESETS["toy-video"], text_encoder=recipe.text_encoder, defaults=recipe.defaults)
    latents = Latents(codec, keep=10**8)
    parallel = Parallel(ParallelConfig())
    world.domains = measure_domains([codec.encode(torch.rand(2, 3, 9, 32, 32) * 2 - 1).detach()], 0.5, parallel)
    made = Denoising(world, latents, **{"loss": LossConfig(levels=LOSSES["edm"].levels, given=(0, 1))} | changes)
    made.shard(parallel)
    return made


def batch(frames: int, rates: tuple[float | None, ...], texts: tuple[str | None, ...]) -> Batch:
    count = len(rates)
    return Batch(
        video=torch.rand(count, 3, frames, 32, 32) * 2 - 1,
        keys=tuple(map(str, range(count))),
        seeds=tuple(range(count)),
        texts=texts,
        rates=rates,
        skipped=0,
    )


def test_clips_of_other_rates_are_seen_at_their_own() -> None:
    trained, mixed = objective(), batch(9, (12.0, 24.0, 12.0), ("a", None, "b"))
    torch.manual_seed(5)
    found = trained.loss(mixed, 0)
    torch.manual_seed(5)
    x0 = trained.world.domains.to_data(trained.latents(mixed.video))
    nothing = torch.zeros(1, 16, 32)
    texts = [torch.cat([trained.world.text_encoder.encode(["a"]), trained.world.text_encoder.encode(["b"])]), nothing]
    parts = [
        diffusion_loss(trained.world, x0[rows], text, fps=rate, config=trained._loss)["loss"] * len(rows) / 3
        for rows, text, rate in zip(([0, 2], [1]), texts, (12.0, 24.0), strict=True)
    ]
    torch.testing.assert_close(found["loss"], sum(parts), rtol=1e-5, atol=1e-6)
    found["loss"].backward()
    assert all(value.grad is not None for name, value in trained.world.named_parameters())


def test_pictures_are_trained_on_too() -> None:
    assert objective().loss(batch(1, (None, None), ("a", "b")), 0)["loss"].isfinite()


def test_validation_is_the_same_each_time_and_shows_how_clips_go_on() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    made = objective(validation=[Shown(frames=frames, caption="a ball", rate=24.0)])
    with torch.no_grad():
        first, second = made.validate(), made.validate()
    assert first["continuations"].shape == (2 * 32, 5 * 32, 3)
    assert first["validation_error"] == second["validation_error"]
    assert first["psnr"] == second["psnr"]


def test_validation_takes_what_training_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for index, (frames, side) in enumerate([(9, 32), (17, 40), (20, 27)]):  # too short, none, too small
        np.save(tmp_path / "clips" / f"{index}.npy", rng.integers(0, 256, (frames, side, side + 13, 3), np.uint8))
    changes = ["data.frames=[17]", "loss.given=[0,1,2]", "validation_clips=3", "loop.averages=[]"]
    assert train(tmp_path / "clips", tmp_path / "run", "--steps", "1", changes=changes) == 0
    assert "not validated on: 1 of fewer than 17 frames" in capsys.readouterr().out
    assert logged(tmp_path / "run")[-1]["validation_error"] > 0


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        ((), ["tokenizer=nano-dv4x8x8"], "tokenizer nano-dv4x8x8: gives discrete latents"),
        ((), ["data.frames=[8]"], "data.frames is (8,): nano-cv8x8x8 takes 1 + 8 n frames, such as 9"),
        ((), ["loss.given=[0,3]"], "loss.given is (0, 3), and a clip has 2 latent frames"),
        ((), ["preset=toys"], "preset is 'toys'"),
        ((), ["keep_latents=-1"], "keep_latents is -1"),
        (("--networks", "."), [], "--networks is .: recipes of diffusion models have no use for it"),
        (("--embeddings", "."), [], ".: the model has a text encoder of its own"),
        (("--init", "nothing.safetensors"), [], "there is no file or folder nothing.safetensors"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    changes: list[str],
    message: str,
) -> None:
    assert train(folder, tmp_path / "run", *more, changes=changes) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_checkpoint_without_statistics_takes_the_tokenizers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    save(WorldModel(replace(PRESETS["toy-video"])), tmp_path / "bare.safetensors")
    init = ("--steps", "1", "--init", str(tmp_path / "bare.safetensors"))
    assert train(folder, tmp_path / "run", *init) == 2
    assert "has no text encoder of its own: set text_encoder=null" in capsys.readouterr().err
    assert train(folder, tmp_path / "run", *init, changes=["text_encoder=null"]) == 0
    world = load(tmp_path / "run" / "model.safetensors")
    assert torch.equal(world.domains.video.mean, load_tokenizer("nano-cv8x8x8").statistics.mean)
