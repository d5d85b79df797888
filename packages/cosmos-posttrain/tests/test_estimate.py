"""Estimates: published figures, counts on the meta device against real runs, and one line for what cannot be."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import cosmos_diffusion
import cosmos_tokenizer
from cosmos_diffusion.defaults import Defaults
from cosmos_posttrain.cli import main
from cosmos_posttrain.estimate.convolutional import tokenizer_forward
from cosmos_posttrain.estimate.models import Clip, find_model
from cosmos_posttrain.estimate.training import Plan, adapter_parameters, estimate
from cosmos_tokenizer import PRESETS, CausalTokenizer, TokenizerConfig

SMALL = Clip(frames=9, height=64, width=96)
Run = Callable[[str], dict]
TRAINING = ("--gpus 1", "--context 1", "--shard 1", "--lora 8", "--steps 10000", "--gpu h100", "--peak-tflops 900")
TRAINING += ("--efficiency 0.4",)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command: the object in its last line, and all lines before it as "text"."""

    def call(line: str) -> dict:
        capsys.readouterr()
        assert main(["estimate", *line.split(), "--json"]) == 0
        *text, last = capsys.readouterr().out.splitlines()
        return json.loads(last) | {"text": "\n".join(text)}

    return call


@pytest.mark.parametrize(("name", "state", "activations"), [("14b-text2world", 280, 311), ("7b-video2world", 145, 194)])
def test_the_released_nets_take_the_published_memory(name: str, state: int, activations: int, run: Run) -> None:
    said = run(f"--model {name} --gpus 64 --context 8")
    # The paper rounds the nets to 14 and 7 billion parameters.
    assert said["weights_gb"] + said["gradients_gb"] + said["optimizer_gb"] == pytest.approx(state, rel=0.02)
    assert said["activations_gb"] == pytest.approx(activations, abs=0.5)
    each = said["per_gpu"]
    assert each["activations_gb"] == pytest.approx(activations / 8, rel=0.002)
    assert each["total_gb"] - each["activations_gb"] == pytest.approx(state / 64, rel=0.02)
    assert said["clips_per_step"] == 8
    assert f"activations{said['activations_gb']:13.1f}" in said["text"]


@pytest.mark.parametrize("name", ["cv8x8x8-720p", "7b-video2world-action", "7b-text2world-multiview"])
def test_a_big_model_runs_with_its_own_clips(name: str, run: Run) -> None:
    said = run(f"--model {name} --gpus 8")
    assert said["total_gb"] > 20 * said["parameters"] / 1e9
    assert 0 < said["hours"] < 1000
    assert said["per_gpu"]["weights_gb"] == pytest.approx(said["weights_gb"] / 8)


def test_every_preset_has_an_estimate() -> None:
    for name in cosmos_diffusion.PRESETS:
        found = estimate(find_model(name), Plan(gpus=2))
        assert found.whole.weights == 10 * found.parameters
        assert found.whole.activations > 0
        assert found.flops > 0
    for config, name in {config: name for name, config in PRESETS.items()}.items():
        small = Clip(frames=1, height=32, width=32)
        found = estimate(find_model(f"tokenizer:{name}"), Plan(gpus=2), small)
        assert found.model.config == config
        assert found.whole.optimizer == 8 * found.parameters
        assert found.whole.activations > 0
        assert found.flops > 0


@pytest.mark.parametrize(
    ("config", "batch", "clip"),
    [
        (PRESETS["toy"], 2, Clip(frames=9, height=64, width=80)),
        (PRESETS["toy-discrete"], 1, Clip(frames=17, height=48, width=64)),
        (PRESETS["nano-dv8x16x16"], 1, Clip(frames=9, height=32, width=48)),
        (replace(PRESETS["di8x8-360p"], channels=32), 3, Clip(frames=1, height=16, width=24)),
    ],
    ids=["toy", "toy-discrete", "nano", "image"],
)
def test_bytes_and_operations_are_those_of_a_real_run(config: TokenizerConfig, batch: int, clip: Clip) -> None:
    net = CausalTokenizer(config)
    told = tokenizer_forward(config, clip, batch=batch, dtype=torch.float32)
    weights, sizes, alive = {parameter.data_ptr() for parameter in net.parameters()}, {}, []

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(value)
        return value

    video = torch.randn(batch, 3, clip.frames, clip.height, clip.width)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        out = net(video)
    assert told.saved == sum(sizes.values())
    # The counter does not know the CPU's fused attention; written out, it is two products, of as many operations.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        out = net(video)
        forward = counter.get_total_flops()
        out.square().mean().backward()
    assert told.flops == forward
    assert 0.95 * 3 * told.flops < counter.get_total_flops() < 3 * told.flops  # no gradient of the clip
    half = tokenizer_forward(config, clip, batch=batch)
    assert half.saved == pytest.approx(told.saved / 2, rel=0.02)
    assert half.flops == told.flops


def test_figures_grow_with_the_batch() -> None:
    for name in ("7b-text2world", "nano-cv8x8x8"):
        one, two = (estimate(find_model(name), Plan(gpus=1, batch=batch), SMALL) for batch in (2, 4))
        assert two.whole.activations == 2 * one.whole.activations
        assert two.flops == 2 * one.flops
        assert two.whole.weights == one.whole.weights


def test_gpus_share_the_work(run: Run) -> None:
    one = run("--model 7b-text2world --gpus 1 --frames 57 --gpu a100 --steps 300")
    many = run("--model 7b-text2world --gpus 12 --frames 57 --context 3 --shard 6 --peak-tflops 400 --efficiency 0.5")
    assert many["per_gpu"]["optimizer_gb"] == pytest.approx(one["optimizer_gb"] / 6)
    assert many["per_gpu"]["activations_gb"] == pytest.approx(one["activations_gb"] * 3 / 8)  # of 8 latent frames
    assert many["flops"] == 4 * one["flops"]
    assert one["hours"] == pytest.approx(one["flops"] * 300 / (312e12 * 0.4 * 3600))
    assert many["hours"] == pytest.approx(many["flops"] * 10_000 / (12 * 400e12 * 0.5 * 3600))
    assert many["gpu_hours"] == pytest.approx(12 * many["hours"])
    assert "do not fit in 80 GB" in one["text"]
    assert "fit in" not in many["text"]  # of a card that nobody named
    assert "assumed efficiency of 0.5" in many["text"]


def test_adapters_leave_gradients_and_moments_to_few(run: Run) -> None:
    config = cosmos_diffusion.PRESETS["toy-video"]
    net = cosmos_diffusion.DiT(config)
    names = {f"{kind}_attention.{part}" for kind in ("self", "cross") for part in "qv"}
    sides = [sum(layer.weight.shape) for name, layer in net.named_modules() if name.split(".", 2)[-1] in names]
    assert adapter_parameters(config, 3) == 3 * sum(sides)
    full, low = run("--model 14b-text2world"), run("--model 14b-text2world --lora 8")
    assert low["trained_parameters"] == 8 * 36 * (7 * 5120 + 1024)
    assert low["gradients_gb"] < 0.001 * full["gradients_gb"]
    assert low["optimizer_gb"] == pytest.approx(8e-9 * low["trained_parameters"])
    assert low["weights_gb"] == pytest.approx(2e-9 * full["parameters"], rel=0.01)
    assert low["activations_gb"] == full["activations_gb"]
    assert 2 / 3 < low["flops"] / full["flops"] < 0.9


def test_checkpoints_are_models_too(run: Run, tmp_path: Path) -> None:
    world, codec = str(tmp_path / "world.safetensors"), str(tmp_path / "codec.safetensors")
    config = cosmos_diffusion.PRESETS["toy-video"]
    defaults = cosmos_diffusion.WorldModel(config).defaults
    small = type(defaults)(tokenizer="nano-cv4x8x8", frames=13, height=96, width=64, fps=24.0)
    cosmos_diffusion.save(cosmos_diffusion.WorldModel(config, defaults=small), world)
    cosmos_tokenizer.save(CausalTokenizer(PRESETS["toy"]), codec)
    said = run(f"--model {world}")
    assert (said["kind"], said["frames"], said["height"], said["width"]) == ("world model", 13, 96, 64)
    assert said["activations_gb"] * 1e9 == pytest.approx(2 * 2 * 15 * 4 * 6 * 4 * 48)  # 4 latent frames of 6 x 4 tokens
    assert run(f"--model {codec}")["kind"] == "tokenizer"
    assert run("--model toy")["kind"] == "world model"
    assert run("--model tokenizer:toy")["parameters"] == run(f"--model {codec}")["parameters"]


def test_a_world_is_counted_with_the_codec_of_the_file_that_it_names(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, codec = tmp_path / "world.safetensors", tmp_path / "codec.safetensors"
    config = cosmos_diffusion.PRESETS["toy-video"]
    named = Defaults(tokenizer=str(codec), frames=17, height=64, width=96, fps=24.0)
    cosmos_diffusion.save(cosmos_diffusion.WorldModel(config, defaults=named), world)
    assert main(["estimate", "--model", str(world)]) == 2
    says = f"{world}: its tokenizer, {codec}, is no preset and not on this machine: put the file there"
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    small = replace(PRESETS["nano-dv8x16x16"], channels=8, encoder_blocks=1, decoder_blocks=1)
    cosmos_tokenizer.save(CausalTokenizer(small), codec)
    assert find_model(str(world)).compression == (8, 16)
    # 3 latent frames of 2 x 3 tokens.
    assert run(f"--model {world}")["activations_gb"] * 1e9 == pytest.approx(2 * 2 * 15 * 3 * 2 * 3 * 48)


def test_inference_prints_memory_by_option(run: Run) -> None:
    said = run("--model toy-video --inference --frames 17 --height 64 --width 96")
    options = {row["option"]: row for row in said["options"]}
    assert options["int8"]["weights_gb"] < options["bfloat16"]["weights_gb"]
    assert "bfloat16, FSDP over 4" in options
    for option in options:
        assert f"\n{option} " in said["text"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model 9b", "there is no model 9b: give a checkpoint's path, or one of 7b-text2world"),
        ("--model nvidia/Cosmos-9b", "there is no model nvidia/Cosmos-9b"),
        ("--gpus 8", "--model"),
        ("--model toy --gpus 0", "gpus is 0: give a number from 1 up"),
        ("--model toy --gpus two", "invalid int value: 'two'"),
        ("--model 7b-text2world --gpus 6 --context 4", "context is 4: it must divide the number of GPUs, 6"),
        ("--model 7b-text2world --gpus 6 --shard 4", "shard is 4: it must divide the number of GPUs, 6"),
        ("--model 7b-text2world --gpus 32 --context 32", "context is 32: there are 16 latent frames to share"),
        ("--model 7b-text2world --frames 120", "frames is 120: give 1 + a multiple of 8, such as 113 or 121"),
        ("--model 7b-text2world --height 700", "height is 700: give a multiple of 16"),
        ("--model cv8x8x8-720p --frames 120", "frames is 120: give 1 + a multiple of 8, such as 113 or 121"),
        ("--model cv4x8x8-360p --frames 0", "a clip of 0 frames has nothing to encode"),
        ("--model ci8x8-360p --frames 9", "frames is 9: an image tokenizer takes 1"),
        ("--model cv8x8x8-720p --width 100", "width is 100: give a multiple of 8, such as 104"),
        ("--model cv8x8x8-720p --gpus 2 --context 2", "cv8x8x8-720p is a tokenizer: it has neither"),
        ("--model nano-cv8x8x8 --inference", "nano-cv8x8x8 is a tokenizer: --inference is about world models"),
        ("--model toy-video --inference --batch 0", "batch is 0: give a number from 1 up"),
        *((f"--model toy-video --inference {line}", f"{line.split()[0]}: of training alone") for line in TRAINING),
        ("--model toy-video --inference --gpus 1 --steps 10000", "--gpus, --steps: of training alone"),
        ("--model toy --efficiency 40", "efficiency is 40.0: give a share of the peak"),
        ("--model toy --peak-tflops 0", "peak-tflops is 0.0: give a positive number"),
        ("--model toy --steps 0", "steps is 0"),
        ("--model toy --batch 0", "batch is 0"),
        ("--model toy --gpu abacus", "invalid choice: 'abacus'"),
        ("--model short.pt", "neither a world model ("),
    ],
)
def test_what_cannot_be_is_one_line(
    line: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.pt").write_bytes(b"PK")
    assert main(["estimate", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 1
    assert out == ""
