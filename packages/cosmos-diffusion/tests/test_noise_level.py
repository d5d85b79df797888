"""The noise level's way into the network: an action joins the branches that a release has it in."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_diffusion import PRESETS
from cosmos_diffusion.noise_level import ActionMLP, NoiseEmbedding


@pytest.mark.parametrize("branch", ["modulation", "both"])
def test_an_action_is_added_to_its_branches(randomised: Callable, branch: str) -> None:
    noise = randomised(NoiseEmbedding(replace(PRESETS["toy-video"], action_numbers=7, action_branch=branch)))
    c_noise, action = torch.randn(2, 3), 6 * torch.randn(2, 7)

    def added(mlp: ActionMLP) -> Tensor:
        return mlp.down(F.gelu(mlp.up(action), approximate="tanh"))[:, None]

    with torch.no_grad():
        plain, acted = (noise(c_noise, given, torch.float32) for given in (None, action))
        torch.testing.assert_close(acted.shared - plain.shared, added(noise.action_shared).expand(2, 3, -1))
        rates = torch.exp(-math.log(10000) * torch.arange(24) / 24)
        waves = torch.cat([(c_noise[..., None] * rates).cos(), (c_noise[..., None] * rates).sin()], -1)
        torch.testing.assert_close(plain.embedding, noise.norm(waves))
        expected = noise.norm(waves + added(noise.action_embedding)) if branch == "both" else plain.embedding
        torch.testing.assert_close(acted.embedding, expected)
