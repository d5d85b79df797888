"""Clips to latents: kept ones are those made anew, and statistics bring them to zero mean and the data's deviation."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_posttrain.parallel import Parallel, ParallelConfig
from cosmos_posttrain.recipes.latents import Latents, measure_domains
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError

TOY = replace(PRESETS["cv8x8x8-0.1"], channels=4, encoder_blocks=1, decoder_blocks=1)


class Counting:
    """A codec that counts the clips that it encodes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.codec, self.encoded = CausalTokenizer(TOY).eval(), 0
        self.geometry, self.decode = self.codec.geometry, self.codec.decode

    def encode(self, video: Tensor, /) -> Tensor:
        self.encoded += len(video)
        return self.codec.encode(video)


def clips(count: int) -> Tensor:
    return torch.rand(count, 3, 9, 32, 48) * 2 - 1


def test_a_clip_is_encoded_once() -> None:
    codec, video = Counting(), clips(4)
    latents = Latents(codec, keep=10**6)
    first = latents(video[:3])
    again = latents(video[[2, 3, 0, 2]])
    assert codec.encoded == 4
    torch.testing.assert_close(again[[0, 2, 3]], first[[2, 0, 2]], rtol=0, atol=0)
    torch.testing.assert_close(again[1:2], codec.codec.encode(video[3:4]).half().float(), rtol=1e-3, atol=1e-3)
    assert not again.requires_grad


def test_kept_and_made_anew_are_the_same_bits() -> None:
    video = clips(2)
    kept, anew = Latents(Counting(), keep=10**6), Latents(Counting(), keep=0)
    kept(video)
    assert torch.equal(kept(video), anew(video))
    anew(video)
    assert anew.codec.encoded == 4


def test_the_oldest_go_where_there_is_no_room() -> None:
    codec, video = Counting(), clips(3)
    each = 16 * 2 * 4 * 6 * 2
    latents = Latents(codec, keep=2 * each)
    for row in (0, 1, 0, 2):  # 1 was used least recently
        latents(video[row : row + 1])
    assert codec.encoded == 3
    latents(video[:1])
    latents(video[2:])
    assert codec.encoded == 3
    latents(video[1:2])
    assert codec.encoded == 4


def test_what_is_kept_holds_no_memory_of_other_clips() -> None:
    latents = Latents(Counting(), keep=10**6)
    latents(clips(3))
    assert [row.untyped_storage().nbytes() for row in latents._kept.values()] == [16 * 2 * 4 * 6 * 2] * 3


def test_a_pass_in_half_precision_leaves_latents_alone() -> None:
    video = clips(1)
    with torch.autocast("cpu", torch.bfloat16):
        low = Latents(Counting(), keep=0)(video)
    assert torch.equal(low, Latents(Counting(), keep=0)(video))


def test_statistics_bring_latents_to_the_scale_of_the_data() -> None:
    parallel = Parallel(ParallelConfig())
    videos = [torch.randn(3, 16, t, 4, 5) * 3 + torch.arange(t)[:, None, None] for t in (4, 2)]
    pictures = torch.randn(6, 16, 1, 4, 4) * 0.25 - 7
    domains = measure_domains([videos[0], pictures, videos[1]], 0.5, parallel)
    assert domains.video.mean.shape == (16, 4)
    assert domains.picture.mean.shape == (16, 1)
    first = torch.cat([videos[0][:, :, :2], videos[1]])
    data = domains.to_data(first)
    torch.testing.assert_close(data.mean((0, 3, 4)), torch.zeros(16, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.std((0, 3, 4), correction=0), torch.full((16, 2), 0.5), atol=1e-5, rtol=0)
    assert domains.to_data(pictures, picture=True).std().item() == pytest.approx(0.5, rel=1e-3)
    only = measure_domains([videos[0]], 0.5, parallel)
    torch.testing.assert_close(only.picture.mean, only.video.mean[:, :1])


def test_a_channel_that_never_changes_is_named() -> None:
    with pytest.raises(InputError, match="a channel of the latents is the same in all data"):
        measure_domains([torch.zeros(2, 16, 2, 4, 4)], 0.5, Parallel(ParallelConfig()))
    with pytest.raises(InputError, match="no latents to measure"):
        measure_domains([], 0.5, Parallel(ParallelConfig()))
