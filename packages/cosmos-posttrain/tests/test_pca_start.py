"""The linear start: as good as a block PCA, constants that stay, ends that fold away exactly."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch._subclasses.fake_tensor import FakeTensorMode

from cosmos_posttrain import block_pca, clip_pool, linear_layers, pca_start
from cosmos_posttrain.cli import main
from cosmos_posttrain.muon import Muon
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, TokenizerConfig, load
from cosmos_tokenizer.metrics import psnr_per_frame

CONTINUOUS = replace(PRESETS["nano-cv4x8x8"], channels=20)
DISCRETE = replace(PRESETS["nano-dv4x8x8"], channels=20)
LEVELS = {
    "two levels": CONTINUOUS,
    "three levels, time halved": replace(PRESETS["nano-cv8x8x8"], channels=20),
    "encoder that ends in a halving": replace(PRESETS["nano-cv8x8x8"], channels=20, spatial_compression=16),
    "decoder that ends in a doubling": replace(
        CONTINUOUS, patch_size=2, temporal_compression=2, spatial_compression=4, channels=40, channel_multipliers=(1, 1)
    ),
}


@pytest.fixture
def clips(small_pool: Path) -> torch.Tensor:
    return clip_pool.to_video(clip_pool.open_split(small_pool))


def started(config: TokenizerConfig, clips: torch.Tensor) -> CausalTokenizer:
    torch.manual_seed(0)
    model = CausalTokenizer(config)
    pca_start.start(model, clips)
    return model


def psnr(video: torch.Tensor, target: torch.Tensor) -> float:
    frames = (rearrange(clips, "b c t h w -> (b t) h w c") for clips in (target, video))
    return float(psnr_per_frame(*frames, data_range=2.0).mean())


@pytest.mark.parametrize("config", LEVELS.values(), ids=LEVELS)
def test_a_fresh_start_stands_near_the_block_pca_and_far_above_chance(
    config: TokenizerConfig, clips: torch.Tensor
) -> None:
    model = started(config, clips)
    block = block_pca.Block(time=config.temporal_compression, space=config.spatial_compression)
    blocks = block_pca.sample_blocks(clips_as_frames(clips), 200, np.random.default_rng(0), block)
    bars = [psnr(block_pca.fit(blocks, block, components=count).reconstruct(clips), clips) for count in (2, 16)]
    with torch.no_grad():
        level = psnr(model(clips), clips)
    assert level > bars[0] + 3
    assert level > bars[1] - 8


def clips_as_frames(clips: torch.Tensor) -> np.ndarray:
    return ((clips + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


def test_a_network_that_cannot_start_so_is_one_line(clips: torch.Tensor) -> None:
    narrow = replace(CONTINUOUS, channels=8)
    flat = replace(CONTINUOUS, spatial_compression=4, channel_multipliers=(1,))
    for config, why in ((PRESETS["ci8x8-0.1"], "image with 32"), (narrow, "6 components reach"), (flat, "no layer")):
        with pytest.raises(InputError, match=f"{why}.*start=random"):
            pca_start.start(CausalTokenizer(replace(config, encoder_blocks=1, decoder_blocks=1)), clips)


def test_latents_start_at_unit_deviation(clips: torch.Tensor) -> None:
    with torch.no_grad():
        z = started(CONTINUOUS, clips).encode(clips)
    deviation = z.std((0, 2, 3, 4))
    assert deviation.min() > 0.5
    assert deviation.max() < 2


def test_a_discrete_start_spreads_over_the_levels(clips: torch.Tensor) -> None:
    model = started(DISCRETE, clips)
    with torch.no_grad():
        codes = model.codes(model.encode(clips))
    used = [len(channel.unique()) for channel in codes.transpose(0, 1).flatten(1)]
    assert all(count >= levels - 2 for count, levels in zip(used, DISCRETE.levels, strict=True))


def test_training_leaves_the_constant_channels_alone_and_moves_the_rest(clips: torch.Tensor) -> None:
    model = started(CONTINUOUS, clips)
    seen: dict[str, torch.Tensor] = {}
    layers = {"encoder": model.encoder.mid, "decoder": model.decoder.up[1].upsample}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.detach()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = Muon(model.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        (model(clips[:2]) - clips[:2]).square().mean().backward()
        optimizer.step()
    model(clips[:2])
    for out in seen.values():
        torch.testing.assert_close(out[:, :, -2], torch.full_like(out[:, :, -2], linear_layers.CONSTANT))
        torch.testing.assert_close(out[:, :, -1], torch.full_like(out[:, :, -1], -linear_layers.CONSTANT))
    moved = [not torch.equal(value, before[name]) for name, value in model.state_dict().items()]
    assert sum(moved) > 0.8 * len(moved)


def test_finished_parameters_have_the_scaled_ends_folded_in_and_give_the_same(clips: torch.Tensor) -> None:
    model = started(CONTINUOUS, clips)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
        before = model(clips[:2])
        plain = CausalTokenizer(CONTINUOUS)
        plain.load_state_dict(pca_start.finished(model, dict(model.named_parameters())))
        assert torch.equal(plain(clips[:2]), before)
        again = pca_start.finished(plain, dict(plain.named_parameters()))
    assert all(torch.equal(value, again[name]) for name, value in plain.named_parameters())


def test_masks_of_the_constants_follow_gradients_to_another_device(clips: torch.Tensor) -> None:
    model = started(CONTINUOUS, clips)
    hooked = [parameter for parameter in model.parameters() if parameter._backward_hooks]
    assert len(hooked) > 20
    with FakeTensorMode(allow_non_fake_inputs=True):
        for parameter in hooked:
            gradient = torch.ones(parameter.shape, device="cuda")
            for hook in (parameter._backward_hooks or {}).values():
                assert hook(gradient).device.type == "cuda"


@pytest.mark.gpu
def test_a_linear_start_is_trained_on_a_gpu(small_pool: Path, tmp_path: Path) -> None:
    changes = ["--set", "data.frames=[9]", "--set", "data.sides=[64]", "--steps", "2"]
    line = ["train", "nano-dv4x8x8", "--data", str(small_pool), "--out", str(tmp_path / "run"), *changes]
    assert main(line) == 0


def test_a_run_that_goes_on_with_other_data_keeps_the_scales_of_its_start(small_pool: Path, tmp_path: Path) -> None:
    pool, run = tmp_path / "pool", tmp_path / "run"
    shutil.copytree(small_pool, pool)
    changes = ["data.frames=[9]", "data.sides=[64]", "loop.optimizer.rate=1e-12", "validation_clips=0"]
    line = ["train", "nano-cv4x8x8", "--data", str(pool), "--out", str(run), *(f"--set={text}" for text in changes)]
    assert main([*line, "--steps", "1"]) == 0
    before = load(run / "model.safetensors")
    frames = np.load(pool / "training.npy")
    np.save(pool / "training.npy", (frames // 4 + 90)[:, :, ::-1, ::-1])
    assert main([*line, "--steps", "2", "--resume"]) == 0
    after = load(run / "model.safetensors").state_dict()
    for name, value in before.state_dict().items():
        if not name.startswith("statistics."):
            torch.testing.assert_close(after[name], value, atol=1e-3, rtol=1e-3)
