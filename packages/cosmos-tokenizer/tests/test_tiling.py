"""Tiles: seams, sizes that fill none, that a network never sees more than one, and what they refuse."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load
from cosmos_tokenizer.tiling import Tiles, run_in_tiles

Make = Callable[..., CausalTokenizer]


@pytest.mark.parametrize("size", [(48, 80), (40, 40), (16, 200), (24, 33)])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (16, 4), (24, 23), (64, 8)])
def test_a_network_without_neighbours_is_left_exact(size: tuple[int, int], tile: int, overlap: int) -> None:
    x = torch.randn(2, 3, 2, *size)
    got = run_in_tiles(lambda part, _: part * 2, x, None, tile=tile, overlap=overlap, zoom=Fraction(1))
    torch.testing.assert_close(got, x * 2)


def test_results_may_be_larger_or_smaller_than_the_frame() -> None:
    x = torch.randn(1, 3, 1, 32, 48)

    def doubled(part: torch.Tensor, _: object) -> torch.Tensor:
        return F.interpolate(part[:, :, 0], scale_factor=2.0)[:, :, None]

    def halved(part: torch.Tensor, _: object) -> torch.Tensor:
        return part[..., ::2, ::2]

    got = run_in_tiles(doubled, x, None, tile=16, overlap=4, zoom=Fraction(2))
    torch.testing.assert_close(got, doubled(x, None))
    got = run_in_tiles(halved, x, None, tile=16, overlap=4, zoom=Fraction(1, 2))
    torch.testing.assert_close(got, halved(x, None))


@torch.no_grad()
def test_no_network_sees_more_than_a_tile_whatever_the_frame(random_tokenizer: Make) -> None:
    model = random_tokenizer(PRESETS["toy"])
    seen: dict[str, set[tuple[int, int]]] = {"encoder": set(), "decoder": set()}
    for name, half in (("encoder", model.encoder), ("decoder", model.decoder)):
        half.register_forward_pre_hook(lambda _, given, name=name: seen[name].add(tuple(given[0].shape[3:])))
    tiles = Tiles(size=32, overlap=8)
    for size in ((40, 72), (96, 33)):
        tokens = model.encode(torch.rand(1, 3, 1, *size), tiles=tiles)
        model.decode(tokens, tiles=tiles)
    assert seen == {"encoder": {(32, 32)}, "decoder": {(4, 4)}}


def test_neighbours_fade_into_each_other() -> None:
    values = iter([0.0, 1.0])
    x = torch.zeros(1, 1, 1, 8, 24)
    got = run_in_tiles(lambda part, _: part + next(values), x, None, tile=16, overlap=8, zoom=Fraction(1))[0, 0, 0, 0]
    assert (got[:8] == 0).all()
    assert (got[16:] == 1).all()
    assert (got[8:16].diff() > 0).all()


def test_a_frame_of_one_tile_is_exact(random_tokenizer: Make) -> None:
    model = random_tokenizer(PRESETS["toy"])
    video = torch.rand(1, 3, 9, 32, 40) * 2 - 1
    with torch.no_grad():
        tokens = model.encode(video)
        torch.testing.assert_close(model.encode(video, tiles=Tiles(size=64, overlap=16)), tokens)
        torch.testing.assert_close(model.decode(tokens, tiles=Tiles(size=64, overlap=16)), model.decode(tokens))


def test_tiles_of_a_picture_differ_little_from_the_whole() -> None:
    model = load("nano-cv4x8x8").fold()
    y, x = torch.meshgrid(torch.arange(192), torch.arange(256), indexing="ij")
    video = torch.stack([torch.sin(y / 9 + x / 23), torch.cos(x / 11), torch.sin((x - y) / 31)])[None, :, None] * 0.8
    tiles = Tiles(size=128, overlap=32)
    whole, tiled = model.reconstruct(video), model.decode(model.encode(video, tiles=tiles), tiles=tiles)
    assert float((whole - tiled).square().mean()) < 0.25 * float((whole - video).square().mean())


def test_tiles_round_up_to_cells_and_keep_going() -> None:
    assert Tiles(size=100, overlap=10).in_cells(16) == (7, 1)
    assert Tiles(size=17, overlap=16).in_cells(16) == (2, 1)
    assert Tiles(size=16, overlap=15).in_cells(16) == (2, 1)
    for size, overlap in ((16, 16), (0, 0), (8, -1)):
        with pytest.raises(InputError, match=f"{size} pixels"):
            Tiles(size=size, overlap=overlap)
