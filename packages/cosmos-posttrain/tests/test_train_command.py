"""`train`: a folder of clips to weights that load, killed and resumed, and what it refuses."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from cosmos_posttrain import clip_pool
from cosmos_posttrain.checkpoints import one_process_is_fine
from cosmos_posttrain.cli import main
from cosmos_posttrain.data import Stream, StreamConfig, open_source
from cosmos_posttrain.losses import StepSchedule
from cosmos_posttrain.networks.mobilenet import MobileNetV2
from cosmos_posttrain.recipes import TermWeights, tokenizer
from cosmos_tokenizer import PRESETS, InputError, load
from cosmos_tokenizer.video import Video, write_video

SMALL = ["--set", "data.crop=32", "--set", "data.sides=[32]", "--set", "validation_clips=1"]


@pytest.fixture(autouse=True)
def few_clips_give_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding and encoding the many that a run takes at its end would be most of these tests' time."""
    monkeypatch.setattr(tokenizer, "STATISTICS_CLIPS", 16)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five clips of 25 frames of 64x48."""
    folder = tmp_path_factory.mktemp("clips")
    t, y, x = np.mgrid[:25, :48, :64]
    for k in range(5):
        grey = 127 + 60 * np.sin(x / (5 + k) + t / 3) + 40 * np.cos(y / 7 - t / 5)
        frames = np.clip(grey[..., None] * np.array([1, 0.8, 0.6]), 0, 255).astype(np.uint8)
        write_video(folder / f"{k}.mp4", Video(frames=frames, rate=Fraction(24)))
    return folder


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


def told(run: Path) -> list[dict[str, float]]:
    """All of a run's figures but times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(run)]


def same_weights(one: Path, other: Path) -> bool:
    states = [load(run / "model.safetensors").state_dict() for run in (one, other)]
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def command(clips: Path, run: Path, *options: str, name: str = "tokenizer-toy") -> list[str]:
    return ["train", name, "--data", str(clips), "--out", str(run), *SMALL, *options]


def test_a_folder_of_clips_becomes_weights_that_load(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(clips, tmp_path / "run", "--steps", "6", "--save-every", "4", "--json")) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == {"command": "train", "model": str(tmp_path / "run/model.safetensors"), "steps": 6}
    model = load(result["model"])
    assert model.config == PRESETS["toy"]
    assert model.statistics is not None
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss"] == row["colour"] and row["skipped"] == 0 for row in rows(tmp_path / "run"))
    assert rows(tmp_path / "run")[-1]["psnr"] > 5
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step-4", "step-6"]
    assert json.loads((tmp_path / "run/recipe.json").read_text())["loop"]["steps"] == 6
    assert (tmp_path / "run/samples/step-6-reconstructions.png").exists()


@pytest.fixture(scope="module")
def clips_and_pictures(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the clips and four pictures."""
    folder = tmp_path_factory.mktemp("mixed") / "data"
    shutil.copytree(clips, folder)
    for k in range(4):
        pixels = np.random.default_rng(k).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(folder / f"{k}.png")
    return folder


def everything(checkpoint: Path, tmp_path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint."""
    with one_process_is_fine():
        dcp_to_torch_save(checkpoint, tmp_path / "tensors.pt")
    return torch.load(tmp_path / "tensors.pt", weights_only=True)


def test_a_run_killed_at_some_moment_and_resumed_ends_with_the_same_weights(
    clips_and_pictures: Path, tmp_path: Path
) -> None:
    data = clips_and_pictures
    changes = (
        *("data.images=0.5", "data.image_batch=3"),
        'terms.adversarial={"values": [0, 0.5], "boundaries": [1]}',
        *("terms.r1=1.0", "terms.discriminator_width=8", "terms.discriminator_layers=2"),
    )
    options = ("--steps", "8", "--save-every", "2", "--threads", "1", *(f"--set={change}" for change in changes))
    assert main(command(data, tmp_path / "whole", *options)) == 0
    cut = tmp_path / "cut"
    line = [sys.executable, "-m", "cosmos_posttrain.cli", *command(data, cut, *options)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while process.poll() is None and not (cut / "checkpoints/step-4").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (cut / "model.safetensors").exists()
    assert main(command(data, cut, *options, "--resume")) == 0
    assert same_weights(tmp_path / "whole", cut)
    assert told(cut) == told(tmp_path / "whole")
    whole, resumed = (everything(run / "checkpoints/step-8", tmp_path) for run in (tmp_path / "whole", cut))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert "parameters.discriminator.head.weight" in whole
    assert whole["optimizer.discriminator.head.weight.step"] == 7


@pytest.mark.skipif(sys.platform == "win32", reason="there are no groups of processes that a signal goes to")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_is_one_line_and_the_run_goes_on_from_its_newest_checkpoint(
    workers: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--save-every", "2", "--workers", workers)
    line = [sys.executable, "-m", "cosmos_posttrain.cli", *command(clips, tmp_path, "--steps", "1000000", *options)]
    # Where the tests run in the background, they may have been told to ignore it, and what they start would too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, process_group=0
        )
    finally:
        signal.signal(signal.SIGINT, before)
    while process.poll() is None and not (tmp_path / "checkpoints/step-4").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, error = process.communicate()  # comes back when no process is left that could write
    assert (process.returncode, error) == (130, "cosmos-posttrain: interrupted; nothing half-written is left\n")
    kept = sorted(int(path.name.removeprefix("step-")) for path in (tmp_path / "checkpoints").iterdir())
    assert len(kept) == 2
    assert main(command(clips, tmp_path, "--steps", str(kept[-1] + 2), *options, "--resume")) == 0
    out = capsys.readouterr().out
    assert f"resumed behind step {kept[-1]}\n" in out
    assert "damaged" not in out
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, kept[-1] + 3))


def test_pictures_and_clips_take_turns_in_batches_of_their_own_sizes(clips_and_pictures: Path) -> None:
    source = open_source(clips_and_pictures)
    settings = StreamConfig(batch=2, frames=(9,), sides=(32,), crop=32, images=0.5, image_batch=6)
    whole = Stream(source, settings)
    parts = [Stream(source, settings, rank=rank, world=2) for rank in range(2)]
    for turn in range(6):
        batch, halves = next(whole), [next(part) for part in parts]
        assert batch.video.shape == ((6, 3, 1, 32, 32) if turn % 2 else (2, 3, 9, 32, 32))
        assert {key.endswith(".png") for key in batch.keys} == {bool(turn % 2)}
        assert torch.equal(torch.stack([half.video for half in halves], 1).flatten(0, 1), batch.video)
    with pytest.raises(InputError, match="a batch of 3 pictures cannot be shared by 2 processes; give a multiple of 2"):
        Stream(source, replace(settings, image_batch=3), rank=1, world=2)


def test_the_linear_start_trains_from_a_pool_and_folds_away(small_pool: Path, tmp_path: Path) -> None:
    changes = ["--set", "data.frames=[9]", "--set", "data.sides=[64]", "--steps", "2"]
    line = ["train", "nano-cv4x8x8", "--data", str(small_pool), "--out", str(tmp_path / "run"), *changes]
    assert main(line) == 0
    model = load(tmp_path / "run/model.safetensors")
    assert model.config == PRESETS["nano-cv4x8x8"]
    assert rows(tmp_path / "run")[-1]["psnr"] > 15
    latents = model.encode(clip_pool.to_video(clip_pool.open_split(small_pool)))
    normalised = model.normalize(latents)
    assert normalised.mean((0, 3, 4)).abs().max() < 0.5
    assert 0.5 < normalised.std((0, 3, 4)).mean() < 2


def test_broken_clips_are_skipped_and_counted_even_where_validation_looks_first(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(clips, tmp_path / "clips")
    (tmp_path / "clips/0.mp4").write_bytes(b"no film")
    frames = np.zeros((25, 48, 64, 3), np.float32)
    frames[3, 4, 5] = np.nan
    np.save(tmp_path / "clips/00.npy", frames)
    assert main(command(tmp_path / "clips", tmp_path / "run", "--steps", "6", "--set", "validation_clips=4")) == 0
    out = capsys.readouterr().out
    for name in ("0.mp4", "00.npy"):
        assert f"not validated on: {name}" in out
    assert rows(tmp_path / "run")[-1]["skipped"] == 2
    assert rows(tmp_path / "run")[-1]["psnr"] > 5


def test_lines_of_progress_do_not_wait_in_a_pipe(clips: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "cosmos_posttrain.cli", *command(clips, tmp_path / "run", "--steps", "1000000")]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=env | {"OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said.startswith("step ")


def test_a_run_resumed_without_its_networks_is_refused(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    save_file(MobileNetV2().state_dict(), tmp_path / "mobilenet_v2.safetensors")
    perceptual = ("--set", 'terms.perceptual={"values": [0.1]}', "--set", "terms.every=4")
    assert main(command(clips, tmp_path / "run", "--steps", "1", *perceptual, "--networks", str(tmp_path))) == 0
    assert main(command(clips, tmp_path / "run", "--steps", "2", *perceptual, "--resume")) == 2
    error = capsys.readouterr().err
    assert "was begun with networks {'mobilenet_v2': " in error
    assert error.endswith("now {}; give the same --networks\n")


def test_the_recipe_kept_is_that_of_the_last_start(clips: Path, tmp_path: Path) -> None:
    assert main(command(clips, tmp_path / "run", "--steps", "1")) == 0
    assert main(command(clips, tmp_path / "run", "--steps", "2", "--resume")) == 0
    assert json.loads((tmp_path / "run/recipe.json").read_text())["loop"]["steps"] == 2


def test_a_run_that_never_saved_leaves_its_folder_to_another_recipe(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(command(clips, tmp_path / "first", "--steps", "1")) == 0
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(tmp_path / "first/recipe.json", run)
    other = ("--steps", "2", "--set", "data.flip=0.25")
    assert main(command(clips, run, *other, "--resume")) == 0
    assert json.loads((run / "recipe.json").read_text())["data"]["flip"] == 0.25
    assert main(command(clips, run, "--steps", "3", "--resume")) == 2


def test_every_moving_average_is_written(clips: Path, tmp_path: Path) -> None:
    averages = ("--set", 'loop.averages=[{"decay": 0.5}, {"width": 0.2}]')
    assert main(command(clips, tmp_path / "run", "--steps", "4", *averages)) == 0
    assert main(command(clips, tmp_path / "wide", "--steps", "4", "--set", 'loop.averages=[{"width": 0.2}]')) == 0
    first, wide, alone = (
        load(tmp_path / name)
        for name in ("run/model.safetensors", "run/model-width-0.2.safetensors", "wide/model.safetensors")
    )
    assert wide.fingerprint == alone.fingerprint != first.fingerprint
    assert wide.statistics is not None
    assert alone.statistics is not None
    assert torch.equal(wide.statistics.mean, alone.statistics.mean)


def test_the_decoder_alone_is_tuned_from_a_checkpoint(clips: Path, tmp_path: Path) -> None:
    assert main(command(clips, tmp_path / "first", "--steps", "2")) == 0
    begun = tmp_path / "first/model.safetensors"
    options = ("--steps", "2", "--init", str(begun), "--set", "trained=decoder", "--set", "data.seed=1")
    assert main(command(clips, tmp_path / "second", *options)) == 0
    one, two = load(begun), load(tmp_path / "second/model.safetensors")
    assert one.fingerprint["encoder"] == two.fingerprint["encoder"]
    assert one.fingerprint["decoder"] != two.fingerprint["decoder"]
    assert one.statistics is not None
    assert two.statistics is not None
    assert torch.equal(one.statistics.mean, two.statistics.mean)
    assert torch.equal(one.statistics.std, two.statistics.std)


def test_terms_without_their_networks_are_named_and_the_run_goes_on(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        "--set",
        'terms.perceptual={"values": [0.1]}',
        "--set",
        'terms.flow={"values": [0.0, 0.1], "boundaries": [1]}',
    ]
    assert main(command(clips, tmp_path / "run", "--steps", "2", *changes)) == 0
    out = capsys.readouterr().out
    assert "without perceptual and Gram terms: the weights of mobilenet_v2 are not at hand (no --networks folder" in out
    assert "without the optical flow term: the weights of raft_large" in out


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list", "--json"]) == 0
    out = capsys.readouterr().out
    assert "tokenizer-toy: toy, 20 steps of 2 clips" in out
    assert "nano-dv4x8x8" in json.loads(out.splitlines()[-1])["recipes"]


def optimizer(name: str, options: dict[str, Any]) -> list[str]:
    return ["--set", f"loop.optimizer={json.dumps({'name': name, 'rate': 1e-3, 'options': options})}"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--set", "loop.speed=1"], "there is no field loop.speed: LoopConfig has steps, optimizer"),
        (["--set", "loop.steps.more=1"], "there is no field loop.steps.more: what loop.steps holds has no fields"),
        (["--set", "loop.clip=none"], "loop.clip is 'none': it must be float"),
        (["--set", "trained=encoder"], "trained is 'encoder': use one of all, decoder"),
        (["--set", "data.frames=9"], "data.frames is 9: it must be tuple[int, ...]"),
        (["--set", 'terms.gram={"value": [1]}'], "there is no field terms.gram.value: StepSchedule has values"),
        (["--set", "loop"], "'loop' sets nothing: write FIELD=VALUE"),
        (["--set", "preset=giant"], "preset is 'giant': use one of"),
        (["--set", "data.frames=[49]"], "no clip has 49 frames at a step of 1; the longest, "),
        (["--set", 'loop.optimizer={"name":"adamw"}'], "loop.optimizer lacks rate: give all that OptimizerConfig asks"),
        (["--set", 'data={"batch":2}'], "data lacks frames, sides: "),
        (["--set", "terms.r1=NaN"], "terms.r1 is nan: give a finite weight from 0 up"),
        (
            ["--set", 'terms.consistency={"values":[1]}', "--set", "terms.window_step=8"],
            "two of terms.window=9 frames, terms.window_step=8 apart, take 17: set data.frames, now [9], ",
        ),
        (["--steps", "0"], "steps is 0"),
        (["--set", "start=pca", "--set", "loop.parallel.weights=sharded"], "start is 'pca', whose masks"),
        (["--init", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--set", "start=pca", "--set", "trained=decoder"], "give init"),
        (optimizer("adamw", {"betas": [2, 0.5]}), "adamw does not take {'betas': [2, 0.5]}: Invalid beta parameter"),
        (optimizer("adamw", {"eps": -1e-8}), "adamw does not take {'eps': -1e-08}: Invalid epsilon value"),
        (optimizer("muon", {"betas": [2.0, 0.5]}), "muon does not take {'betas': [2.0, 0.5]}: Invalid beta value: 2.0"),
        (optimizer("sgd", {"momentum": math.nan}), "sgd has momentum nan: give something like 0"),
        (optimizer("adamw", {"fused": True, "foreach": True}), "`fused` and `foreach` cannot be `True` together."),
        pytest.param(
            optimizer("adamw", {"capturable": True}),
            "If capturable=True, params and state_steps must be on supported devices",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, which takes it"),
        ),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    change: list[str], said: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(clips, tmp_path / "run", *change)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_another_recipes_folder_is_refused_and_stays(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(command(clips, run, "--steps", "2")) == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for options, said in (
        (("--steps", "2"), "already holds a run: resume it or name another folder"),
        (("--steps", "2", "--resume", "--set", "data.batch=4"), "begun with data"),
        (("--steps", "2", "--resume", "--set", "loop.clip=0.5"), "begun with clip 1.0, and now it is 0.5"),
    ):
        capsys.readouterr()
        assert main(command(clips, run, *options)) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("split", ["training", "development"])
def test_a_junk_pool_is_one_line_and_no_run_begins(
    split: str, small_pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small_pool, tmp_path / "pool")
    (tmp_path / f"pool/{split}.npy").write_text("just words")
    assert main(command(tmp_path / "pool", tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert f"{split}.npy is damaged or no array of clips" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_finished_run_may_be_resumed_and_writes_the_same(clips: Path, tmp_path: Path) -> None:
    assert main(command(clips, tmp_path / "run", "--steps", "2")) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    assert main(command(clips, tmp_path / "run", "--steps", "2", "--resume")) == 0
    assert same_weights(tmp_path / "before", tmp_path / "run")


def test_a_network_of_the_loss_does_not_judge_it(tmp_path: Path) -> None:
    file, said = tmp_path / f"{tokenizer.JUDGE}.pth", []
    file.touch()
    mine, off = StepSchedule(values=(0.0, 0.1), boundaries=(5,)), StepSchedule(values=(0.0,))
    assert tokenizer._judge(TermWeights(gram=mine), tmp_path, said.append) == file
    assert tokenizer._judge(TermWeights(features=tokenizer.JUDGE, gram=off), tmp_path, said.append) == file
    assert tokenizer._judge(TermWeights(), tmp_path / "nowhere", said.append) is None
    assert said == []
    assert tokenizer._judge(TermWeights(features=tokenizer.JUDGE, gram=mine), tmp_path, said.append) is None
    assert said == ["validated without perceptual distance: its network, efficientnet_lite0, is the loss's own"]
