"""What tests share: random networks, and diffusers' transformer as an oracle."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel
from diffusers.models.transformers import transformer_cosmos

from cosmos_diffusion import DiT, DiTConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def randomised() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Return what gives every weight random values, also those that begin at zero or one: no mix-up can hide."""

    def fill(module: torch.nn.Module) -> torch.nn.Module:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.08)
        return module.eval()

    return fill


@pytest.fixture
def random_net(randomised: Callable) -> Callable[[DiTConfig], DiT]:
    """Return a maker of random networks."""
    return lambda config: randomised(DiT(config))


@pytest.fixture
def oracle(randomised: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[[DiTConfig], CosmosTransformer3DModel]:
    """Return a maker of diffusers' transformer of a config, with random weights.

    It resizes the padding mask with torchvision, which does not import beside torch's CPU build: that one function is
    stood in for.
    """

    def resize(mask: torch.Tensor, size: list[int], interpolation: str) -> torch.Tensor:
        return F.interpolate(mask, size=size, mode=interpolation)

    stand_in = SimpleNamespace(
        InterpolationMode=SimpleNamespace(NEAREST="nearest"), functional=SimpleNamespace(resize=resize)
    )
    monkeypatch.setattr(transformer_cosmos, "transforms", stand_in, raising=False)

    def make(config: DiTConfig) -> CosmosTransformer3DModel:
        return randomised(
            CosmosTransformer3DModel(
                in_channels=config.latent_channels + config.condition_mask,
                out_channels=config.latent_channels,
                num_attention_heads=config.heads,
                attention_head_dim=config.head_width,
                num_layers=config.blocks,
                mlp_ratio=config.mlp_ratio,
                text_embed_dim=config.text_width,
                adaln_lora_dim=config.adaln_rank,
                max_size=config.grid,
                patch_size=config.patch,
                rope_scale=config.rope_ratio,
                concat_padding_mask=config.padding_mask,
                extra_pos_embed_type="learnable" if config.position == "learned" else None,
                use_crossattn_projection=config.text_projection > 0,
                crossattn_proj_in_channels=config.text_projection or 1024,
                encoder_hidden_states_channels=config.text_width,
            )
        )

    return make
