"""Random weights are drawn as the released code draws them, and what a clip may measure is told before it runs."""

import math
from dataclasses import replace

import pytest
import torch

from cosmos_diffusion import PRESETS, DiT
from cosmos_tokenizer import InputError

TOY = PRESETS["toy"]
VIEWS = replace(TOY, views=3, position="sincos")


def test_weights_begin_as_the_released_code_draws_them() -> None:
    net = DiT(replace(TOY, blocks=1, width=96, action_numbers=7))
    for layer in (net.noise.up, net.noise.down):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    block = net.blocks[0]
    for layer in (block.up, block.cross_attention.k, net.last_modulation.up, net.last):
        bound = math.sqrt(6 / sum(layer.weight.shape))  # uniform, by Xavier
        assert 0.97 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.06)
    assert not any(modulation.up.weight.any() for modulation in block.modulations)
    assert all(modulation.down.weight.any() for modulation in block.modulations)
    for table in net.position.parameters():
        assert table.std().item() == pytest.approx(0.02, rel=0.15)
    assert not net.noise.action_shared.down.weight.any()
    assert net.noise.action_shared.up.weight.any()


def test_the_largest_clip_is_that_of_the_grid() -> None:
    net = DiT(TOY)
    with torch.device("meta"):
        assert net.layout(torch.empty(1, 16, 16, 32, 32)) == (1, (16, 16, 16))
        for shape, says in (((1, 16, 2, 0, 4), "latents have 0 rows"), ((1, 16, 2, 34, 4), "latents have 34 rows")):
            with pytest.raises(InputError, match=says):
                net.layout(torch.empty(shape))


def test_views_share_frames_and_text_out_evenly() -> None:
    net = DiT(VIEWS)
    assert net.layout(torch.empty(1, 16, 6, 4, 4)) == (3, (2, 2, 2))
    with pytest.raises(InputError, match="latents have 7 frames: 3 views need a multiple of 3"):
        net.layout(torch.empty(1, 16, 7, 4, 4))
    with pytest.raises(InputError, match=r"text has shape \(1, 8, 32\)"):
        net.prepare_text(torch.zeros(1, 8, 32), views=3)
