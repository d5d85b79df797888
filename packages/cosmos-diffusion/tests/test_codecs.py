"""The codec that a name stands for, and a flow model with Wan's codec through the command."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

import cosmos_tokenizer
from cosmos_diffusion import load, save
from cosmos_diffusion.cli import main
from cosmos_diffusion.codecs import load_codec
from cosmos_diffusion.pipelines import Text2World
from cosmos_diffusion.wan import WanCodec
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import CausalTokenizer, InputError, hub
from cosmos_tokenizer.video import read_video


@pytest.fixture
def folder(randomised: Callable, tmp_path: Path) -> Path:
    """Return a pipeline's folder with a tiny autoencoder in it."""
    sizes = {"base_dim": 4, "dim_mult": [1, 1, 2, 1], "num_res_blocks": 1, "z_dim": 4}
    vae = AutoencoderKLWan(**sizes, latents_mean=[0.3, -0.7, 1.5, 0.1], latents_std=[0.5, 2.0, 1.25, 1.0])
    randomised(vae).save_pretrained(tmp_path / "pipeline" / "vae")
    return tmp_path / "pipeline"


def flow_file(toy_world: Callable, folder: Path, tokenizer: str | None = None) -> Path:
    made = toy_world(prediction="flow", position="none", rope_fps=False, encoder=False)
    world = WorldModel(made.config, defaults=replace(made.defaults, tokenizer=tokenizer))
    world.load_state_dict(made.state_dict())
    save(world, folder / "flow.safetensors")
    return folder / "flow.safetensors"


def test_folders_and_files_are_told_apart_by_content(folder: Path, toy_codec: Callable, tmp_path: Path) -> None:
    cosmos_tokenizer.save(toy_codec(), tmp_path / "codec.safetensors")
    for prediction in ("edm", "flow", "rectified"):
        for source in (folder, str(folder / "vae")):
            codec = load_codec(source, prediction=prediction, dtype=torch.bfloat16)
            assert isinstance(codec, WanCodec)
            assert codec.dtype == torch.bfloat16
        for source in (tmp_path / "codec.safetensors", "nano-cv8x8x8"):
            codec = load_codec(source, prediction=prediction)
            assert isinstance(codec, CausalTokenizer)
            assert codec.folded


def test_a_hub_id_is_wan_s_for_flows_unless_it_is_a_released_tokenizer_s(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, *given: object, package: str = "cosmos-tokenizer", **named: object) -> Path:
        asked.append((repository, package))
        return folder

    monkeypatch.setattr(hub, "download", download)
    assert isinstance(load_codec("somebody/predict2", prediction="flow"), WanCodec)
    for repository, prediction in (("nvidia/Cosmos-0.1-Tokenizer-CV8x8x8", "rectified"), ("somebody/it", "edm")):
        with pytest.raises(InputError):
            load_codec(repository, prediction=prediction)
    assert [package for _, package in asked] == ["cosmos-diffusion", "cosmos-tokenizer", "cosmos-tokenizer"]


def test_a_flow_model_is_generated_with_wan_s_codec(
    folder: Path, toy_world: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = flow_file(toy_world, tmp_path), tmp_path / "next.mp4"
    words = ["generate", "--model", str(model), "--out", str(out), "--frames", "13"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "give --tokenizer nvidia/Cosmos-Predict2-2B-Video2World, or a folder of diffusers' AutoencoderKLWan" in said
    assert main([*words, "--tokenizer", str(folder)]) == 0
    assert read_video(out).frames.shape == (13, 32, 48, 3)


def test_a_pipeline_finds_it_by_the_model_s_own_name_of_it(folder: Path, toy_world: Callable, tmp_path: Path) -> None:
    assert isinstance(Text2World(load(flow_file(toy_world, tmp_path, str(folder)))).codec, WanCodec)
    with pytest.raises(InputError, match="give a codec, codecs.load_codec of nvidia/Cosmos-Predict2-2B"):
        Text2World(flow_file(toy_world, tmp_path))
