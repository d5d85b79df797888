"""The linear start: as good as a block PCA, constants that stay, ends that fold away exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from cosmos_posttrain import block_pca, clip_pool, pca_start
from cosmos_posttrain.muon import Muon
from cosmos_tokenizer import PRESETS, CausalTokenizer, TokenizerConfig
from cosmos_tokenizer.metrics import psnr_per_frame

CONTINUOUS = replace(PRESETS["nano-cv4x8x8"], channels=20)
DISCRETE = replace(PRESETS["nano-dv4x8x8"], channels=20)


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


def test_a_fresh_start_stands_near_the_block_pca_and_far_above_chance(clips: torch.Tensor) -> None:
    model = started(CONTINUOUS, clips)
    blocks = block_pca.sample_blocks(clips_as_frames(clips), 200, np.random.default_rng(0))
    bars = [psnr(block_pca.fit(blocks, components=count).reconstruct(clips), clips) for count in (2, 16)]
    with torch.no_grad():
        level = psnr(model(clips), clips)
    assert level > bars[0] + 3
    assert level > bars[1] - 6


def clips_as_frames(clips: torch.Tensor) -> np.ndarray:
    return ((clips + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


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
        torch.testing.assert_close(out[:, :, -2], torch.full_like(out[:, :, -2], pca_start.CONSTANT))
        torch.testing.assert_close(out[:, :, -1], torch.full_like(out[:, :, -1], -pca_start.CONSTANT))
    moved = [not torch.equal(value, before[name]) for name, value in model.state_dict().items()]
    assert sum(moved) > 0.8 * len(moved)


def test_finish_folds_the_scaled_ends_and_changes_no_output(clips: torch.Tensor) -> None:
    model = started(CONTINUOUS, clips)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
        before = model(clips[:2])
        pca_start.finish(model)
        assert torch.equal(model(clips[:2]), before)
    assert set(model.state_dict()) == set(CausalTokenizer(CONTINUOUS).state_dict())
