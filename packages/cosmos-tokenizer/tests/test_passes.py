"""Clips through a tokenizer in passes: the stream's results, sizes of passes, and memory that does not grow."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load
from cosmos_tokenizer import passes as passes_module
from cosmos_tokenizer.media import in_pieces, to_clip, to_frames
from cosmos_tokenizer.passes import WINDOW, Passes, passes_of
from cosmos_tokenizer.tiling import Tiles

TOY = PRESETS["toy"]
Make = Callable[..., CausalTokenizer]


def _noise(frames: int, height: int = 19, width: int = 33) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), np.uint8)


def _plan(model: CausalTokenizer, frames: np.ndarray, *, exact: bool = False, tile: int | None = None) -> Passes:
    return passes_of(model, frames.shape[1:3], exact=exact, tile=tile)


def _tokens(passes: Passes, frames: np.ndarray) -> torch.Tensor:
    return torch.cat(list(passes.encode(in_pieces(iter(frames), passes.frames))), dim=-3)


@pytest.mark.parametrize(
    ("temporal", "size", "tile", "step"),
    [
        (8, (16, 16), None, 16),
        (8, (64, 64), None, 16),
        (8, (256, 256), None, 2),
        (4, (256, 256), None, 4),
        (8, (720, 1280), None, 1),
        (8, (2160, 3840), None, 1),
        (8, (2160, 3840), 128, 1),
        (8, (64, 512), 32, 4),
    ],
)
def test_a_pass_holds_about_as_many_pixels_whatever_the_frame(
    temporal: int, size: tuple[int, int], tile: int | None, step: int
) -> None:
    model = CausalTokenizer(TOY if temporal == 8 else replace(TOY, temporal_compression=4, channel_multipliers=(1, 2)))
    passes = passes_of(model, size, exact=False, tile=tile)
    assert (passes.step, passes.frames) == (step, step * temporal)


def test_clips_no_longer_than_the_window_are_exact(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    passes = passes_of(model, (16, 16), exact=False, tile=None)
    assert (passes.window, passes.exact_frames) == (WINDOW, 121) == (16, 121)
    assert not passes.bounds(121)
    assert passes.bounds(122)
    frames = _noise(121, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(_tokens(passes, frames), model.encode(to_clip(frames)), atol=1e-5, rtol=0)
    exact = passes_of(model, (16, 16), exact=True, tile=None)
    assert (exact.window, exact.exact_frames, exact.bounds(10**6)) == (None, None, False)


@torch.no_grad()
def test_beyond_the_window_the_results_are_those_of_the_named_streams() -> None:
    model = load("nano-cv4x8x8").fold()
    frames = (_noise(81, 16, 16) * np.linspace(0.05, 1, 81)[:, None, None, None]).astype(np.uint8)
    found = {}
    for exact in (False, True):
        stream = model.stream_encoder(window=None if exact else WINDOW, step=4)
        found[exact] = _tokens(_plan(model, frames, exact=exact), frames)
        torch.testing.assert_close(found[exact], stream.push(to_clip(frames)), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[True], model.encode(to_clip(frames)), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[True][:, :, :16], found[False][:, :, :16], atol=1e-5, rtol=0)
    assert not torch.allclose(found[True][:, :, 16:], found[False][:, :, 16:], atol=1e-3, rtol=0)


@torch.no_grad()
def test_decoding_looks_back_as_far_as_encoding(random_tokenizer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_tokenizer(TOY)
    clips = []
    monkeypatch.setattr(passes_module, "to_frames", clips.append)
    tokens = torch.randn(1, 4, 19, 2, 2, generator=torch.Generator().manual_seed(0)).cumsum(2)
    for window, exact in ((WINDOW, False), (None, True)):
        clips.clear()
        list(passes_of(model, (16, 16), exact=exact, tile=None).decode(tokens.split(2, dim=2), frames=140))
        made = torch.cat(clips, dim=2)
        stream = model.stream_decoder(window=window, size=(16, 16), frames=140)
        torch.testing.assert_close(made, stream.push(tokens), atol=1e-4, rtol=1e-4)
        assert torch.allclose(made, model.decode(tokens, frames=140), atol=1e-3, rtol=1e-3) == exact


@pytest.mark.parametrize("config", [TOY, replace(TOY, media="image", temporal_compression=1)], ids=["video", "image"])
@torch.no_grad()
def test_tiles_are_pixels_that_overlap_by_a_quarter(config: object, random_tokenizer: Make) -> None:
    model = random_tokenizer(config)
    frames = _noise(1, 40, 72)
    tiles = Tiles(size=32, overlap=8)
    passes = _plan(model, frames, tile=32)
    assert passes.tiles == tiles
    tokens = _tokens(passes, frames)
    torch.testing.assert_close(tokens, model.encode(to_clip(frames), tiles=tiles), atol=1e-5, rtol=0)
    assert not torch.allclose(tokens, model.encode(to_clip(frames)), atol=1e-4, rtol=0)
    [made] = passes.decode([tokens])
    expected = to_frames(model.decode(tokens, size=(40, 72), tiles=tiles))
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("tile", [0, -5])
def test_a_tile_of_no_size_is_refused(tile: int, random_tokenizer: Make) -> None:
    with pytest.raises(InputError, match=f"a tile of {tile} pixels"):
        passes_of(random_tokenizer(TOY), (16, 16), exact=False, tile=tile)


@pytest.mark.parametrize("parts", [[1, 4, 4, 1], [10], [3, 7]])
def test_stored_tokens_come_as_they_were_made(parts: list[int], random_tokenizer: Make) -> None:
    passes = replace(passes_of(random_tokenizer(TOY), (16, 16), exact=False, tile=None), step=4)
    tokens = torch.randn(4, 10, 2, 2)
    pieces = list(passes.split(tokens.split(parts, dim=1)))
    assert torch.equal(torch.cat(pieces, dim=2), tokens[None])
    assert pieces[0].shape[2] == 1
    assert all(piece.shape[2] <= 4 for piece in pieces)
    if parts == [1, 4, 4, 1]:
        assert [piece.shape[2] for piece in pieces] == parts


def test_frames_that_went_by_are_let_go(random_tokenizer: Make) -> None:
    """Alive at any time: what one pass takes and makes, however long the clip is."""
    passes = replace(passes_of(random_tokenizer(TOY).fold(), (64, 64), exact=False, tile=None), step=1)
    frame = _noise(1, 64, 64)[0]
    alive = []

    def film(length: int) -> Iterator[np.ndarray]:
        for _ in range(length):
            yield frame.copy()

    with torch.inference_mode():
        for index, made in enumerate(passes.decode(passes.encode(in_pieces(film(26 * 8 + 1), passes.frames)))):
            assert made.shape[1:] == (64, 64, 3)
            if index in (19, 25):
                gc.collect()
                alive.append(sum(x.numel() for x in gc.get_objects() if type(x) is torch.Tensor))
    assert alive[0] == alive[1]


def test_an_image_tokenizer_takes_pictures_alone(random_tokenizer: Make) -> None:
    model = random_tokenizer(replace(TOY, media="image", temporal_compression=1))
    frames = _noise(1, 20, 33)
    passes = _plan(model, frames)
    assert passes.window is None
    tokens = _tokens(passes, frames)
    assert tuple(tokens.shape[1:]) == passes.token_shape(1)
    [made] = passes.decode([tokens])
    assert made.shape == frames.shape


def test_latents_that_overflow_are_refused(random_tokenizer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_tokenizer(TOY)
    monkeypatch.setattr(model, "encode_raw", lambda clip, **_: torch.full((1, 4, 1, 3, 5), torch.inf))
    with pytest.raises(InputError, match="not finite in torch.float32"):
        _tokens(_plan(model, _noise(1)), _noise(1))
