"""Streams against the clip in one piece: every plan of pieces, causality, bounded state, and what they refuse."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, TokenizerConfig
from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.tiling import Tiles

Make = Callable[..., CausalTokenizer]
TOY = PRESETS["toy"]
CONFIGS = {
    "8x8x8": TOY,
    "8x8x8 discrete": PRESETS["toy-discrete"],
    "8x16x16": replace(TOY, spatial_compression=16),
    "4x8x8": replace(TOY, temporal_compression=4, channel_multipliers=(1, 2)),
    "4x8x8 patch 2": replace(TOY, temporal_compression=4, patch_size=2),
    "8x8x8 legacy": replace(TOY, legacy_upsample=True),
}
WIDE = replace(TOY, channels=48, channel_multipliers=(1, 1, 1))
"""Wide enough for the convolutions of the full-size nets, given frames large enough."""


def clip(frames: int, size: tuple[int, int] = (19, 32), batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, *size, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def plans(total: int) -> Iterator[list[int]]:
    """Cuts of ``total`` items: all at once, one by one, and random ones, some of nothing."""
    yield [0, total]
    yield list(range(total + 1))
    source = random.Random(total)
    for _ in range(4):
        yield [0, *sorted(source.choices(range(total + 1), k=source.randint(1, 5))), total]


def encoded(model: CausalTokenizer, video: torch.Tensor, plan: list[int], **options: object) -> torch.Tensor:
    stream = model.stream_encoder(**options)
    found = [stream.push(video[:, :, start:end]) for start, end in pairwise(plan)]
    return torch.cat([tokens for tokens in [*found, stream.flush()] if tokens is not None], dim=-3)


def decoded(model: CausalTokenizer, tokens: torch.Tensor, plan: list[int], **options: object) -> torch.Tensor:
    stream = model.stream_decoder(**options)
    found = [stream.push(tokens.narrow(-3, start, end - start)) for start, end in pairwise(plan)]
    stream.flush()
    return torch.cat([frames for frames in found if frames is not None], dim=2)


@pytest.mark.parametrize("folded", [False, True], ids=["trained form", "folded"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@torch.no_grad()
def test_every_plan_of_pieces_gives_the_whole(config: TokenizerConfig, folded: bool, random_tokenizer: Make) -> None:
    model = random_tokenizer(config)
    model = model.fold() if folded else model
    frames = 2 * config.temporal_compression + 4
    video = clip(frames)
    tokens = model.encode(video)
    whole = model.decode(tokens, frames=frames, size=(19, 32))
    for plan in plans(frames):
        torch.testing.assert_close(encoded(model, video, plan), tokens, atol=1e-5, rtol=0)
    for plan in plans(tokens.shape[-3]):
        got = decoded(model, tokens, plan, frames=frames, size=(19, 32))
        assert got.shape == whole.shape
        torch.testing.assert_close(got, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@torch.no_grad()
def test_several_latent_frames_at_once_and_several_clips_give_the_same(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(33, batch=2)
    tokens = model.encode(video)
    torch.testing.assert_close(encoded(model, video, [0, 33], step=3), tokens, atol=1e-5, rtol=0)
    whole = model.decode(tokens)
    got = decoded(model, tokens, [0, 2, 5], step=2)
    torch.testing.assert_close(got, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


@torch.no_grad()
def test_push_gives_all_that_is_determined_and_flush_the_rest(random_tokenizer: Make) -> None:
    stream = random_tokenizer(TOY).stream_encoder()
    counts = []
    for _ in range(19):
        tokens = stream.push(clip(1))
        counts.append(0 if tokens is None else tokens.shape[2])
    assert counts == [1, *[0] * 7, 1, *[0] * 7, 1, 0, 0]
    assert stream.flush().shape[2] == 1
    stream = random_tokenizer(TOY).stream_encoder()
    assert stream.push(clip(17)).shape[2] == 3
    assert stream.flush() is None
    assert random_tokenizer(TOY).stream_encoder().flush() is None


@torch.no_grad()
def test_later_frames_change_no_bit_of_earlier_ones(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(25)
    other = video.clone()
    other[:, :, 17:] = -other[:, :, 17:]
    assert torch.equal(model.encode(video)[:, :, :3], model.encode(other)[:, :, :3])
    assert not torch.equal(model.encode(video)[:, :, 3], model.encode(other)[:, :, 3])
    tokens = model.encode(video)
    changed = tokens.clone()
    changed[:, :, 2:] += 1
    assert torch.equal(model.decode(tokens)[:, :, :9], model.decode(changed)[:, :, :9])
    first = model.stream_encoder()
    assert torch.equal(first.push(video[:, :, :17]), model.stream_encoder().push(other[:, :, :17]))


@torch.no_grad()
def test_a_window_bounds_what_is_remembered_and_all_else_does_not_grow(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    bounded, exact = model.stream_encoder(window=3), model.stream_encoder()
    decoder = model.stream_decoder(window=3)
    sizes = []
    for index in range(8):
        tokens = bounded.push(clip(8 if index else 1))
        exact.push(clip(8 if index else 1))
        decoder.push(tokens)
        sizes.append((bounded.nbytes, decoder.nbytes, exact.nbytes))
    assert sizes[3][:2] == sizes[7][:2]
    key_and_value = 2 * 4 * model.config.widths[-1] * 3 * 4
    # With room for a half more at most.
    assert 7 * key_and_value <= sizes[7][2] - sizes[0][2] <= 1.5 * 8 * key_and_value


def test_the_past_of_attention_may_grow_in_any_mode(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(8 * 9 + 1)
    cache, found = FrameCache(), []
    whole = model.encode(video)
    modes = [torch.inference_mode, torch.no_grad, torch.enable_grad]
    for index, part in enumerate([video[:, :, :1], *video[:, :, 1:].split(8, dim=2)]):
        with modes[index // 2 % 3]():
            found.append(model.encode_raw(model.pad_space(part), cache=cache).clone())
    torch.testing.assert_close(torch.cat(found, dim=2), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_attention_remembers_is_copied_seldom_and_never_twice(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    key, cache, places = model.encoder.mid.temporal_attention.key, FrameCache(), []
    for index in range(33):
        model.encode_raw(clip(8 if index else 1, (16, 16)), cache=cache)
        places.append(cache.tensors[key].data_ptr())
    assert cache.tensors[key].shape[3] == 33
    assert len([True for one, other in pairwise(places) if one != other]) <= 9


@torch.no_grad()
def test_a_window_is_exact_until_the_clip_outgrows_it(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(41)
    tokens = model.encode(video)
    for step in (1, 2):
        windowed = encoded(model, video, [0, 41], window=4, step=step)
        torch.testing.assert_close(windowed[:, :, :4], tokens[:, :, :4], atol=1e-5, rtol=0)
        assert not torch.allclose(windowed[:, :, 4:], tokens[:, :, 4:], atol=1e-5, rtol=0)
    one_by_one = encoded(model, video, [0, 41], window=4, step=1)
    together = encoded(model, video, [0, 41], window=4, step=5)
    torch.testing.assert_close(one_by_one, together, atol=1e-5, rtol=0)


@torch.no_grad()
def test_tiled_streams_equal_the_tiled_clip(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    tiles = Tiles(size=32, overlap=8)
    video = clip(17, (32, 56))
    tokens = model.encode(video, tiles=tiles)
    torch.testing.assert_close(encoded(model, video, [0, 5, 17], tiles=tiles), tokens, atol=1e-5, rtol=0)
    whole = model.decode(tokens, tiles=tiles)
    got = decoded(model, tokens, [0, 1, 3], tiles=tiles)
    torch.testing.assert_close(got, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


def test_streams_refuse_what_cannot_go_on(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    stream = model.stream_encoder()
    stream.push(clip(9))
    with pytest.raises(InputError, match="16x16 after 1 clips of 19x32"):
        stream.push(clip(8, (16, 16)))
    stream.flush()
    with pytest.raises(InputError, match="flushed"):
        stream.push(clip(8))
    with pytest.raises(InputError, match="window is 0"):
        model.stream_encoder(window=0)
    with pytest.raises(InputError, match="step is 0"):
        model.stream_decoder(step=0)
    decoder = model.stream_decoder(frames=9, size=(19, 32))
    tokens = model.encode(clip(17))
    with pytest.raises(InputError, match="9 frames do not belong to 3 latent frames"):
        decoder.push(tokens)
    short = model.stream_decoder(frames=17)
    short.push(tokens[:, :, :2])
    with pytest.raises(InputError, match="17 frames do not belong to 2 latent frames"):
        short.flush()
    image = random_tokenizer(
        replace(TOY, media="image", temporal_compression=1, spatial_compression=16, patch_size=2, channels=16)
    )
    with pytest.raises(InputError, match="image tokenizer"):
        image.stream_encoder()


@torch.no_grad()
def test_streams_and_causality_hold_for_winograd_convolutions(random_tokenizer: Make) -> None:
    model = random_tokenizer(WIDE).fold()
    video = clip(17, (136, 128))
    other = video.clone()
    other[:, :, 9:] += 1
    tokens = model.encode(video)
    assert torch.equal(tokens[:, :, :2], model.encode(other)[:, :, :2])
    torch.testing.assert_close(encoded(model, video, [0, 3, 12, 17]), tokens, atol=1e-5, rtol=0)
    whole = model.decode(tokens)
    got = decoded(model, tokens, [0, 1, 3])
    torch.testing.assert_close(got, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


def test_a_refused_piece_leaves_the_stream_as_it_was(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    tokens = model.encode(clip(25)).detach()
    stream = model.stream_decoder(frames=17)
    first = stream.push(tokens[:, :, :1])
    for wrong in (tokens[:, :, 1:], tokens[:, :, 1:2, :, :3], tokens[:, :, 1:2].expand(2, -1, -1, -1, -1)):
        with pytest.raises(InputError):
            stream.push(wrong)
    rest = stream.push(tokens[:, :, 1:3])
    stream.flush()
    whole = model.decode(tokens[:, :, :3]).detach()
    torch.testing.assert_close(torch.cat([first, rest], dim=2), whole, atol=1e-5 * float(whole.abs().max()), rtol=0)


def test_a_first_piece_that_is_refused_binds_nothing(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    stream = model.stream_encoder()
    with pytest.raises(InputError, match="8x8 is too small"):
        stream.push(clip(1, (8, 8)))
    torch.testing.assert_close(stream.push(clip(9, (32, 32))), model.encode(clip(9, (32, 32))), atol=1e-5, rtol=0)


def test_streams_run_under_autocast(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = encoded(model, clip(17), [0, 9, 17])
        frames = decoded(model, tokens.float(), [0, 1, 3])
    exact = model.encode(clip(17)).detach()
    assert float((tokens - exact).abs().max()) < 0.1 * float(exact.abs().max())
    assert bool(torch.isfinite(frames).all())
