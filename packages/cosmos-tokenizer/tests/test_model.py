"""The tokenizer as a whole: causality, padding, kinds, dtypes, gradients, memory of attention, and what it refuses."""

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, TokenizerConfig, check_codec

Make = Callable[..., CausalTokenizer]
TOY = PRESETS["toy"]
TOY_4X = replace(TOY, temporal_compression=4, channel_multipliers=(1, 2))
TOY_IMAGE = replace(
    TOY, media="image", temporal_compression=1, spatial_compression=16, patch_size=2, channels=16, norm_groups=4
)
VIDEO = {
    "8x8x8": TOY,
    "8x8x8 discrete": PRESETS["toy-discrete"],
    "8x16x16": replace(TOY, spatial_compression=16),
    "4x8x8": TOY_4X,
    "4x8x8 patch 2": replace(TOY, temporal_compression=4, patch_size=2),
    "8x8x8 legacy": replace(TOY, legacy_upsample=True),
}


def clip(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("config", VIDEO.values(), ids=VIDEO.keys())
def test_every_kind_of_video_net_is_a_causal_codec(config: TokenizerConfig, random_tokenizer: Make) -> None:
    check_codec(random_tokenizer(config))


@pytest.mark.parametrize("frames", [1, 2, 8, 9, 12])
@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
def test_decode_undoes_what_encode_padded(frames: int, size: tuple[int, int], random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(1, 3, frames, *size)
    tokens = model.encode(video)
    assert tokens.shape[2:] == (model.geometry.latent_frames(frames), *model.geometry.latent_size(*size))
    assert model.decode(tokens, frames=frames, size=size).shape == video.shape


def test_padding_repeats_the_ends_and_leaves_whole_cells_alone(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(1, 3, 7, 20, 30)
    frames = torch.cat([video, video[:, :, -1:].expand(-1, -1, 2, -1, -1)], dim=2)
    rows = torch.cat([frames, frames[..., -1:, :].expand(-1, -1, -1, 4, -1)], dim=-2)
    whole = torch.cat([rows, rows[..., -1:].expand(-1, -1, -1, -1, 2)], dim=-1)
    assert torch.equal(model.encode(video), model.encode_raw(whole))
    assert torch.equal(model.encode(whole), model.encode_raw(whole))


@pytest.mark.parametrize("name", ["toy", "toy-discrete"])
def test_reconstruct_is_decode_of_encode(name: str, random_tokenizer: Make) -> None:
    model = random_tokenizer(PRESETS[name])
    video = clip(2, 3, 6, 18, 33)
    with torch.no_grad():
        expected = model.decode(model.encode(video), frames=6, size=(18, 33))
        assert torch.equal(model.reconstruct(video), expected)


@pytest.mark.parametrize("name", ["toy", "toy-discrete"])
def test_every_parameter_and_the_clip_get_a_gradient(name: str, random_tokenizer: Make) -> None:
    model = random_tokenizer(PRESETS[name])
    video = clip(1, 3, 17, 16, 24).requires_grad_()
    model.reconstruct(video).square().mean().backward()
    assert video.grad is not None
    for parameter_name, parameter in model.named_parameters():
        # A key's bias adds the same to every score of a row, which softmax ignores.
        if not parameter_name.endswith("attention.k.bias"):
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().max() > 0, parameter_name


def test_images_come_with_and_without_a_time_axis(random_tokenizer: Make) -> None:
    for config in (TOY_IMAGE, replace(TOY_IMAGE, kind="discrete", latent_channels=2, levels=(8, 5))):
        model = random_tokenizer(config)
        picture = clip(2, 3, 40, 24)
        tokens = model.encode(picture)
        still = model.encode(picture.unsqueeze(2))
        assert torch.equal(tokens, still.squeeze(-3))
        assert tokens.shape[-2:] == (3, 2)
        out = model.decode(tokens, size=(40, 24))
        assert out.shape == picture.shape
        assert torch.equal(out, model.decode(still, frames=1, size=(40, 24)).squeeze(2))
        assert torch.equal(out, model.reconstruct(picture))


def test_bfloat16_stays_near_float32(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = clip(1, 3, 9, 16, 32)
    with torch.no_grad():
        exact = model.encode(video)
        model.to(torch.bfloat16)
        rounded = model.encode(video)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).square().mean() < 1e-3 * exact.square().mean()


def test_the_meta_device_gives_shapes() -> None:
    with torch.device("meta"):
        model = CausalTokenizer(PRESETS["dv8x16x16-720p"])
        video = torch.empty(1, 3, 17, 64, 96)
    assert model.encode(video).shape == (1, 3, 4, 6)
    assert model.decode(model.encode(video)).shape == video.shape


def test_attention_never_builds_a_score_matrix(random_tokenizer: Make) -> None:
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN202
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple | list) else (out,):
                if isinstance(value, torch.Tensor):
                    self.numel = max(self.numel, value.numel())
            return out

    model = random_tokenizer(replace(TOY, channels=4, channel_multipliers=(1, 1, 1)))
    with torch.no_grad(), Largest() as seen:
        model.encode(clip(1, 3, 1, 512, 512))
    cells = (512 // 8) ** 2
    assert 0 < seen.numel < cells**2 / 2


def test_fingerprint_follows_the_weights_not_their_storage(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY).to(torch.bfloat16)
    before = model.fingerprint
    assert model.to(torch.float32).fingerprint == before
    with torch.no_grad():
        model.decoder.conv_in.spatial.bias[0] += 1
    assert model.fingerprint["encoder"] == before["encoder"]
    assert model.fingerprint["decoder"] != before["decoder"]
    assert random_tokenizer(TOY, parts="encoder").fingerprint["decoder"] is None


def test_fingerprint_tells_apart_graphs_of_equal_weights(random_tokenizer: Make) -> None:
    model, grouped = random_tokenizer(TOY), random_tokenizer(replace(TOY, norm_groups=2))
    assert torch.equal(model.decoder.norm_out.weight, grouped.decoder.norm_out.weight)
    assert all(model.fingerprint[half] != grouped.fingerprint[half] for half in ("encoder", "decoder"))


REFUSED = {
    "integers": (torch.zeros(1, 3, 1, 16, 16, dtype=torch.uint8), "uint8: scale it to floats"),
    "rank": (torch.zeros(1, 3, 16, 16), r"shape \(1, 3, 16, 16\).*B 3 T H W"),
    "channels": (torch.zeros(1, 4, 1, 16, 16), r"shape \(1, 4, 1, 16, 16\)"),
    "size": (torch.zeros(1, 3, 1, 16, 15), "16x15 is too small"),
    "empty": (torch.zeros(1, 3, 0, 16, 16), "0 frames"),
}


@pytest.mark.parametrize(("video", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_clip_that_does_not_fit_is_named(video: torch.Tensor, message: str, random_tokenizer: Make) -> None:
    # Shape checks at run time, which the nox session adds, would refuse some of these before encode sees them.
    encode = inspect.unwrap(CausalTokenizer.encode)
    with pytest.raises(InputError, match=message):
        encode(random_tokenizer(TOY), video)


def test_several_frames_are_too_many_for_an_image_net(random_tokenizer: Make) -> None:
    with pytest.raises(InputError, match="2 frames: an image tokenizer takes one"):
        random_tokenizer(TOY_IMAGE).encode(clip(1, 3, 2, 16, 16))


def test_tokens_that_do_not_fit_are_named(random_tokenizer: Make) -> None:
    continuous, discrete = random_tokenizer(TOY), random_tokenizer(PRESETS["toy-discrete"])
    latents, indices = torch.zeros(1, 4, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.int32)
    with pytest.raises(InputError, match="got indices .* is continuous"):
        continuous.decode(indices)
    with pytest.raises(InputError, match="got latents .* is discrete"):
        discrete.decode(latents)
    with pytest.raises(InputError, match="5 channels: this tokenizer has 4"):
        continuous.decode(torch.zeros(1, 5, 2, 2, 2))
    with pytest.raises(InputError, match="30 frames do not belong to 2 latent frames"):
        continuous.decode(latents, frames=30)
    with pytest.raises(InputError, match="64x16 does not belong to latents of 2x2"):
        continuous.decode(latents, size=(64, 16))
    with pytest.raises(InputError, match="index 64000 is out of range"):
        discrete.decode(indices + 64000)
    with pytest.raises(InputError, match="no codes"):
        continuous.codes(indices)


def test_half_a_checkpoint_says_which_half_is_missing(random_tokenizer: Make) -> None:
    with pytest.raises(InputError, match="holds an encoder only"):
        random_tokenizer(TOY, parts="encoder").decode(torch.zeros(1, 4, 1, 2, 2))
    with pytest.raises(InputError, match="holds a decoder only"):
        random_tokenizer(TOY, parts="decoder").encode(clip(1, 3, 1, 16, 16))


def test_check_codec_notices_a_look_ahead(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)

    class Peeking:
        geometry = model.geometry

        def encode(self, video: torch.Tensor) -> torch.Tensor:
            return model.encode(video) + video.mean()

        def decode(self, tokens: torch.Tensor, **crop: object) -> torch.Tensor:
            return model.decode(tokens, **crop)

    with pytest.raises(AssertionError, match="future frames change past tokens"):
        check_codec(Peeking())


@pytest.mark.parametrize("kind", ["toy", "toy-discrete", "image"])
def test_tokens_of_nothing_are_one_line(kind: str, random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY_IMAGE if kind == "image" else PRESETS[kind])
    whole = model.encode(clip(1, 3, 1, 32, 48)).detach()
    with pytest.raises(InputError, match="a batch holds at least one"):
        model.decode(whole[:0])
    for axis in (-3, -2, -1):
        with pytest.raises(InputError, match="there is nothing to decode") as caught:
            model.decode(whole.narrow(axis, 0, 0))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="at least|has 0 frames"):
        model.encode(clip(1, 3, 1, 32, 48)[:, :, :0])
