"""The folded form against the trained one: every graph of the family, every dtype, streams, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, TokenizerConfig, check_codec, folding, load, save
from cosmos_tokenizer.folded import whole_patches
from cosmos_tokenizer.folding import folded_decoder, folded_encoder

Make = Callable[..., CausalTokenizer]
TOY = PRESETS["toy"]
TOY_IMAGE = replace(
    TOY, media="image", temporal_compression=1, spatial_compression=16, patch_size=2, channels=16, norm_groups=4
)
CONFIGS = {
    "8x8x8": TOY,
    "8x8x8 discrete": PRESETS["toy-discrete"],
    "8x16x16": replace(TOY, spatial_compression=16),
    "4x8x8": replace(TOY, temporal_compression=4, channel_multipliers=(1, 2)),
    "4x8x8 patch 2": replace(TOY, temporal_compression=4, patch_size=2),
    "8x8x8 legacy": replace(TOY, legacy_upsample=True),
    "image 16x16": TOY_IMAGE,
    "wide": replace(TOY, channels=48),
}


def clip_for(config: TokenizerConfig, kind: torch.dtype = torch.float32) -> torch.Tensor:
    frames = 1 if config.media == "image" else 1 + 2 * config.temporal_compression
    return (torch.rand(2, 3, frames, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(kind)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_folding_changes_nothing_but_rounding(config: TokenizerConfig, random_tokenizer: Make) -> None:
    model, video = random_tokenizer(config), clip_for(config, torch.float64)
    with torch.no_grad():
        exact = model.double()
        z = exact.encode_raw(video)
        clip = exact.decode_raw(z)
        folded = exact.fold()
        torch.testing.assert_close(folded.encode_raw(video), z, atol=1e-10, rtol=0)
        torch.testing.assert_close(folded.decode_raw(z), clip, atol=1e-10, rtol=0)
        narrow = model.float().fold()
        torch.testing.assert_close(narrow.encode_raw(video.float()).double(), z, atol=1e-5, rtol=0)
        torch.testing.assert_close(narrow.decode_raw(z.float()).double(), clip, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["toy", "toy-discrete"])
def test_a_folded_tokenizer_is_a_codec(name: str, random_tokenizer: Make) -> None:
    check_codec(random_tokenizer(PRESETS[name]).fold())


def test_bfloat16_stays_bfloat16_and_near(random_tokenizer: Make) -> None:
    model = random_tokenizer(CONFIGS["wide"])
    video = clip_for(CONFIGS["wide"])
    with torch.no_grad():
        exact = model.reconstruct(video)
        plain = model.bfloat16().reconstruct(video).float()
        folded = model.fold().reconstruct(video)
    assert folded.dtype == torch.bfloat16
    spread = float((plain - exact).std())
    assert float((folded.float() - exact).std()) < 1.5 * spread


@pytest.mark.parametrize("frames", [1, 14, 16])
def test_clips_that_fill_no_patch_are_reflected_like_the_wavelet(frames: int, random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    video = torch.rand(1, 3, frames, 32, 24) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model.fold().encode_raw(video), model.encode_raw(video), atol=1e-5, rtol=0)


def test_whole_patches_reflects_single_samples_and_then_pairs() -> None:
    assert whole_patches(7, 2) == [0, 1, 2, 3, 4, 5, 6, 5]
    assert whole_patches(9, 4) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 7]
    assert whole_patches(8, 4) == list(range(8))


def test_folding_keeps_the_fingerprint_the_original_and_its_memory(random_tokenizer: Make) -> None:
    model = random_tokenizer(TOY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = model.fold()
    assert folded.fingerprint == model.fingerprint
    assert folded.folded
    assert not model.folded
    assert folded.fold() is folded
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(value.requires_grad for value in folded.parameters())
    shared = {value.data_ptr() for value in model.parameters()} & {value.data_ptr() for value in folded.parameters()}
    assert len(shared) > 20


class _OnlyTheCpuHasFloat64(TorchDispatchMode):
    """Refuses float64 elsewhere, as Apple's devices do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        given = [value for value in args if isinstance(value, torch.Tensor)]
        made = func(*args, **(kwargs or {}))
        made_too = [made] if isinstance(made, torch.Tensor) else []
        for value in (*given, *made_too):
            assert value.dtype != torch.float64 or value.device.type == "cpu", func
        return made


@pytest.mark.parametrize("config", [TOY, TOY_IMAGE], ids=["video", "image"])
def test_weights_of_a_device_without_float64_are_merged_and_come_back_to_it(
    config: TokenizerConfig, random_tokenizer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_finished", lambda half: half)  # which copies, as no device that is absent can
    with FakeTensorMode():  # tensors of any device, without their values
        model = random_tokenizer(config)
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(torch.empty(value.shape, device="mps")))
        with _OnlyTheCpuHasFloat64():
            halves = folded_encoder(model.encoder, config), folded_decoder(model.decoder, config)
        for value in (value for half in halves for value in half.parameters()):
            assert (value.device.type, value.dtype) == ("mps", torch.float32)


def test_a_folded_model_is_not_saved(tmp_path: Path, random_tokenizer: Make) -> None:
    with pytest.raises(InputError, match="folded"):
        save(random_tokenizer(TOY).fold(), tmp_path / "folded.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_half_alone_folds(part: str, random_tokenizer: Make) -> None:
    folded = random_tokenizer(TOY, parts=part).fold()
    assert (folded.encoder is None) == (part == "decoder")
    assert (folded.decoder is None) == (part == "encoder")


def test_shipped_weights_fold(gradients: Callable[..., object]) -> None:
    model = load("nano-cv4x8x8")
    video = clip_for(model.config)
    with torch.no_grad():
        torch.testing.assert_close(model.fold().reconstruct(video), model.reconstruct(video), atol=1e-4, rtol=0)
