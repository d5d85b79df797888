"""What a world model's file carries beside the network: text encoder, latent statistics, defaults."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_diffusion import PRESETS, convert
from cosmos_diffusion.checkpoint import load, save
from cosmos_diffusion.defaults import RELEASED, Defaults
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.text_encoders import ByteEncoderConfig
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError, LatentStatistics

CONFIG = PRESETS["toy-video"]
ENCODER = ByteEncoderConfig(width=CONFIG.text_width, length=CONFIG.text_length, layers=1, heads=2)
DEFAULTS = Defaults(tokenizer="nano-cv8x8x8", frames=33, height=96, width=80, fps=24.0, steps=12, guidance=0.5)


@pytest.fixture
def world(randomised: Callable) -> WorldModel:
    def statistics(frames: int) -> LatentStatistics:
        return LatentStatistics(torch.randn(16, frames), torch.rand(16, frames) + 0.1)

    domains = Domains(video=statistics(5), picture=statistics(1), sigma_data=0.5)
    return randomised(WorldModel(CONFIG, text_encoder=ENCODER, domains=domains, defaults=DEFAULTS))


def test_a_file_carries_all_of_it(world: WorldModel, tmp_path: Path) -> None:
    save(world, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.defaults == DEFAULTS
    prompts = ["a ball rolls", ""]
    torch.testing.assert_close(again.text_encoder.encode(prompts), world.text_encoder.encode(prompts), rtol=0, atol=0)
    z = torch.randn(2, 16, 7, 3, 5)
    assert torch.equal(again.domains.to_data(z), world.domains.to_data(z))
    assert torch.equal(
        again.domains.to_data(z[:, :, :1], picture=True), world.domains.to_data(z[:, :, :1], picture=True)
    )


def test_statistics_are_not_rounded_with_the_weights(world: WorldModel, tmp_path: Path) -> None:
    save(world, tmp_path / "model.safetensors", storage=torch.float16)
    for dtype in (None, torch.bfloat16):
        again = load(tmp_path / "model.safetensors", dtype=dtype)
        assert torch.equal(again.domains.video.mean, world.domains.video.mean)
        assert {value.dtype for value in again.text_encoder.parameters()} == {dtype or torch.float32}
    convert(tmp_path / "model.safetensors", tmp_path / "half.safetensors", dtype=torch.bfloat16)
    half = load(tmp_path / "half.safetensors")
    assert half.net.dtype == torch.bfloat16
    assert half.defaults == DEFAULTS
    assert torch.equal(half.domains.picture.std, world.domains.picture.std)


def test_files_without_them_have_the_released_defaults(randomised: Callable, tmp_path: Path) -> None:
    for prediction, released in RELEASED.items():
        save(randomised(WorldModel(replace(CONFIG, prediction=prediction))), tmp_path / "model.safetensors")
        again = load(tmp_path / "model.safetensors")
        assert (again.defaults, again.text_encoder, again.domains) == (released, None, None)


def test_other_layouts_have_no_place_for_them(world: WorldModel, tmp_path: Path) -> None:
    save(world, tmp_path / "model.safetensors")
    convert(tmp_path / "model.safetensors", tmp_path / "there", to="diffusers")
    again = load(tmp_path / "there", config=CONFIG)
    assert again.text_encoder is None
    assert again.domains is None
    assert torch.equal(again.net.patch.weight, world.net.patch.weight)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("defaults", "{", "its metadata holds no defaults"),
        ("defaults", json.dumps(asdict(DEFAULTS) | {"steps": 0}), "steps is 0"),
        ("defaults", json.dumps(asdict(DEFAULTS) | {"speed": 2}), "not the defaults of a world model"),
        ("text_encoder", "[]", "its metadata holds no text_encoder"),
        ("text_encoder", json.dumps(asdict(ENCODER) | {"width": 64}), "the text encoder has width 64"),
    ],
)
def test_damaged_words_are_named(world: WorldModel, tmp_path: Path, name: str, value: str, message: str) -> None:
    save(world, tmp_path / "model.safetensors")
    said = {"format": "cosmos-diffusion", "version": "1", "config": json.dumps(asdict(CONFIG))}
    said |= {"defaults": json.dumps(asdict(DEFAULTS)), "text_encoder": json.dumps(asdict(ENCODER)), name: value}
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "bad.safetensors", said)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("domains.video.std", None, "domains.video.std is missing"),
        ("domains.picture.mean", torch.zeros(3, 1), "domains.picture.mean has shape"),
        ("domains.video.std", torch.ones(16, 2), "domains.video.std has shape"),
        ("domains.video.std", torch.zeros(16, 5), "non-positive"),
    ],
)
def test_damaged_statistics_are_named(
    world: WorldModel, tmp_path: Path, key: str, value: torch.Tensor | None, message: str
) -> None:
    save(world, tmp_path / "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors") | ({} if value is None else {key: value})
    if value is None:
        del tensors[key]
    said = {"format": "cosmos-diffusion", "version": "1", "config": json.dumps(asdict(CONFIG))}
    said |= {"text_encoder": json.dumps(asdict(ENCODER))}
    save_file(tensors, tmp_path / "bad.safetensors", said)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "bad.safetensors")
