"""torch's global defaults, which a program may set for reasons of its own, change nothing in a model that stands."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, winograd
from cosmos_tokenizer.tiling import Tiles

WIDE = replace(PRESETS["toy-discrete"], temporal_compression=4, channels=48, channel_multipliers=(1, 1))
"""Wide enough for Winograd convolutions."""


@pytest.fixture(params=["float64", "bfloat16", "meta"])
def default(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """What sets a default; it is taken back afterwards, and what was kept for later calls is made anew."""
    name = request.param
    winograd._transforms.cache_clear()
    yield lambda: torch.set_default_device(name) if name == "meta" else torch.set_default_dtype(getattr(torch, name))
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    winograd._transforms.cache_clear()


@torch.no_grad()
def test_a_model_ignores_the_defaults(
    default: Callable[[], None], random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    model = random_tokenizer(WIDE)
    video = torch.rand(1, 3, 5, 128, 136, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tiles = Tiles(size=96, overlap=16)

    def found() -> list[torch.Tensor]:
        folded = model.fold()
        indices = model.encode(video)
        tiled = folded.encode(video[..., :96], tiles=tiles)
        stream = folded.stream_encoder(window=2)
        pieces = [stream.push(video[:, :, :1]), stream.push(video[:, :, 1:])]
        return [indices, model.decode(indices), folded.decode(indices), model.codes(indices), tiled, *pieces]

    before = found()
    winograd._transforms.cache_clear()
    default()
    after = found()
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
