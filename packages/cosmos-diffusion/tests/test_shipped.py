"""The world model that ships inside the package: small, whole, described by its card, and no worse than it says."""

import re
from importlib import resources

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, WorldModel, load
from cosmos_diffusion.fingerprint import fingerprint
from cosmos_diffusion.pipelines import Text2World, Video2World
from cosmos_tokenizer import load as load_tokenizer

NAME = "nano-video2world"
WEIGHTS = resources.files("cosmos_diffusion") / "weights"
SIZE, FRAMES = 96, 33


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return load(NAME)


def falling(drop: float) -> Tensor:
    """A green square above a grey floor, ``drop`` pixels lower each frame until it lies there."""
    frames = np.full((FRAMES, SIZE, SIZE, 3), 150, np.uint8)
    frames[:, 64:] = 110
    for t in range(FRAMES):
        top = min(20 + int(drop * t), 60)
        frames[t, top : top + 16, 40:56] = (40, 190, 60)
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1


def test_the_file_is_at_most_8_mb_and_has_its_card() -> None:
    assert sorted(path.name for path in WEIGHTS.iterdir()) == [f"{NAME}.md", f"{NAME}.safetensors"]
    assert len((WEIGHTS / f"{NAME}.safetensors").read_bytes()) <= 8_000_000


def test_the_card_describes_these_weights(world: WorldModel) -> None:
    card = (WEIGHTS / f"{NAME}.md").read_text("utf-8")
    network = {name: value for name, value in world.state_dict().items() if name.startswith("net.")}
    assert f"`{fingerprint(world.config, network)}`" in card
    (parameters,) = re.findall(r"([\d,]+) parameters", card)
    encoder = world.text_encoder
    assert encoder is not None
    counted = sum(value.numel() for value in (*world.net.parameters(), *encoder.parameters()))
    assert int(parameters.replace(",", "")) == counted


def test_it_knows_its_tokenizer_its_clips_and_its_text(world: WorldModel) -> None:
    assert world.config == PRESETS[NAME]
    assert (world.defaults.frames, world.defaults.height, world.defaults.width) == (FRAMES, SIZE, SIZE)
    assert world.defaults.tokenizer == "nano-cv8x8x8"
    assert world.domains is not None
    assert world.text_encoder is not None


def test_latents_have_the_scale_that_the_network_was_trained_on(world: WorldModel) -> None:
    z = load_tokenizer(world.defaults.tokenizer).encode(falling(2.0))
    assert world.domains is not None
    assert 0.2 < world.domains.to_data(z).std().item() < 1.2


def test_a_still_scene_stays_as_it_is(world: WorldModel) -> None:
    clip = falling(0.0)
    made = Video2World(world)(video=clip[:, :, :9], seeds=0, steps=12)
    error = (made.video - clip)[:, :, 9:].square().mean()
    assert error < 0.02  # random weights: 0.3


def test_text_alone_gives_a_clip(world: WorldModel) -> None:
    made = Text2World(world)("A green box falls to the floor.", seeds=0, steps=6)
    assert made.video.shape == (1, 3, FRAMES, SIZE, SIZE)
    assert made.video.std() > 0.05
