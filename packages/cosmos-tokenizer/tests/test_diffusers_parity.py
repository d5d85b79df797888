"""Same weights, same clip: diffusers' AutoencoderKLCosmos is an implementation that nobody here wrote."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCosmos

from cosmos_tokenizer import PRESETS, CausalTokenizer, LatentStatistics, TokenizerConfig, convert, load, save
from cosmos_tokenizer.diffusers_layout import to_diffusers

TINY = replace(PRESETS["cv8x8x8-0.1"], channels=8, channel_multipliers=(1, 2, 3), z_channels=5, latent_channels=5)
CONFIGS = {
    "8x8x8": TINY,
    "8x16x16": replace(TINY, spatial_compression=16),
    "4x8x8": replace(TINY, temporal_compression=4),
    "4x8x8, two levels": replace(
        TINY, temporal_compression=4, channel_multipliers=(2, 3), encoder_blocks=1, decoder_blocks=2
    ),
    "4x8x8, patch 2": replace(TINY, temporal_compression=4, patch_size=2),
}


def theirs_of(model: CausalTokenizer) -> AutoencoderKLCosmos:
    weights, fields = to_diffusers(model)
    theirs = AutoencoderKLCosmos.from_config(fields).eval()
    theirs.load_state_dict(weights, strict=True)
    return theirs


def compare(model: CausalTokenizer, theirs: AutoencoderKLCosmos, clip: torch.Tensor) -> None:
    z = model.encode_raw(clip)
    latents = theirs.encode(clip).latent_dist.mode()
    torch.testing.assert_close(z, latents, atol=1e-4, rtol=0)
    z = torch.randn_like(latents)
    torch.testing.assert_close(model.decode_raw(z), theirs.decode(z).sample, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frames", [1, 9, 17])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_latents_and_clip_are_those_of_diffusers(
    config: TokenizerConfig, frames: int, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    model = random_tokenizer(config)
    compare(model, theirs_of(model), torch.rand(2, 3, frames, 32, 48) * 2 - 1)


@torch.no_grad()
def test_frames_that_fill_no_group_give_the_latents_of_diffusers(
    random_tokenizer: Callable[..., CausalTokenizer],
) -> None:
    model = random_tokenizer(TINY)
    clip = torch.rand(1, 3, 16, 16, 32) * 2 - 1
    assert model.encode_raw(clip).shape[2] == 3
    compare(model, theirs_of(model), clip)


@torch.no_grad()
def test_a_net_of_full_width_is_that_of_diffusers(random_tokenizer: Callable[..., CausalTokenizer]) -> None:
    model = random_tokenizer(PRESETS["cv8x8x8-720p"])
    compare(model, theirs_of(model), torch.rand(1, 3, 9, 16, 32) * 2 - 1)


def test_gradients_are_those_of_diffusers(random_tokenizer: Callable[..., CausalTokenizer]) -> None:
    model = random_tokenizer(CONFIGS["8x16x16"]).double()
    theirs = theirs_of(model)
    clip = torch.rand(1, 3, 9, 16, 32, dtype=torch.float64) * 2 - 1
    weight = torch.randn_like(clip)
    (model.reconstruct(clip) * weight).sum().backward()
    (theirs.double()(clip).sample * weight).sum().backward()
    for parameter in model.parameters():
        parameter.data = parameter.grad
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    # One scale for all: a bias of the keys has no gradient but rounding. Their wavelet taps are float32 throughout.
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in to_diffusers(model)[0].items():
        torch.testing.assert_close(gradient / scale, expected[name] / scale, atol=1e-6, rtol=0, msg=name)


def test_diffusers_reads_the_folder_that_convert_writes(
    tmp_path: Path, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    model = random_tokenizer(TINY)
    model.statistics = LatentStatistics(torch.randn(5, 4), torch.rand(5, 4) + 0.1)
    save(model, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    theirs = AutoencoderKLCosmos.from_pretrained(tmp_path / "folder").eval()
    with torch.no_grad():
        compare(model, theirs, torch.rand(1, 3, 9, 32, 32) * 2 - 1)
    mean_CF = torch.tensor(theirs.config["latents_mean"]).view(5, -1)
    torch.testing.assert_close(mean_CF, model.statistics.mean, atol=0, rtol=0)


@torch.no_grad()
def test_a_folder_that_diffusers_writes_is_read_with_its_statistics(tmp_path: Path) -> None:
    widths = {"encoder_block_out_channels": (4, 8, 8, 8), "decode_block_out_channels": (8, 8, 8, 8)}
    theirs = AutoencoderKLCosmos(num_layers=1, **widths).eval()
    theirs.save_pretrained(tmp_path / "pipeline" / "vae")
    theirs.save_pretrained(tmp_path / "pipeline" / "vae", variant="fp16")
    model = load(tmp_path / "pipeline")
    compare(model, theirs, torch.rand(1, 3, 9, 16, 16) * 2 - 1)
    std_CF = torch.tensor(theirs.config["latents_std"]).view(16, 16)
    torch.testing.assert_close(model.statistics.std, std_CF, atol=0, rtol=0)
