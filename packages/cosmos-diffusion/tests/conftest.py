"""What tests share: random networks and what pipelines need beside them, and diffusers' transformer as oracle."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel
from diffusers.models.transformers import transformer_cosmos

import cosmos_tokenizer
from cosmos_diffusion import PRESETS, DiT, DiTConfig, WorldModel, save
from cosmos_diffusion.defaults import Defaults
from cosmos_diffusion.text_encoders import ByteEncoderConfig
from cosmos_tokenizer import CausalTokenizer, LatentStatistics


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


@pytest.fixture(scope="session")
def toy_world() -> Callable[..., WorldModel]:
    """Return a maker of random world models of four latent channels, always the same, with all that pipelines need."""

    def make(*, encoder: bool = True, tokenizer: str | None = None, frames: bool = True, **fields: Any) -> WorldModel:
        config = replace(PRESETS["toy-video" if frames else "toy"], latent_channels=4, **fields)
        defaults = Defaults(
            tokenizer=tokenizer, frames=17, height=32, width=48, fps=12.0, steps=2, guidance=1.5, negative="all rests"
        )
        text = ByteEncoderConfig(width=config.text_width, length=config.text_length, layers=1, heads=2)
        made = WorldModel(config, text_encoder=text if encoder else None, defaults=defaults)
        generator = torch.Generator().manual_seed(0)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.08, generator=generator)
        return made.eval()

    return make


@pytest.fixture(scope="session")
def toy_codec() -> Callable[..., CausalTokenizer]:
    """Return a maker of random tokenizers, always the same, with statistics of five latent frames."""

    def make(preset: str = "toy", *, statistics: bool = True) -> CausalTokenizer:
        config = cosmos_tokenizer.PRESETS[preset]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            mean, std = torch.randn(config.latent_channels, 5), torch.rand(config.latent_channels, 5) + 0.5
            known = LatentStatistics(mean, std) if statistics else None
            return CausalTokenizer(config, statistics=known).eval()

    return make


@pytest.fixture
def world_file(toy_world: Callable, toy_codec: Callable, tmp_path: Path) -> Path:
    """Return a file of a random world model that names its tokenizer, a file beside it."""
    cosmos_tokenizer.save(toy_codec(), tmp_path / "codec.safetensors")
    save(toy_world(tokenizer=str(tmp_path / "codec.safetensors")), tmp_path / "world.safetensors")
    return tmp_path / "world.safetensors"
