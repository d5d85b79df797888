"""``convert``: the bits that a network uses survive every layout, and what a layout cannot hold is refused."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cosmos_tokenizer import (
    PRESETS,
    CausalTokenizer,
    InputError,
    LatentStatistics,
    TokenizerConfig,
    convert,
    load,
    save,
)
from cosmos_tokenizer.native import to_native

Maker = Callable[..., CausalTokenizer]

VIDEO = replace(PRESETS["cv8x16x16-0.1"], channels=4, channel_multipliers=(1, 2, 3), encoder_blocks=1, decoder_blocks=2)
CONFIGS = {
    "video": VIDEO,
    "discrete": replace(PRESETS["dv4x8x8-360p"], channels=4, encoder_blocks=1, decoder_blocks=2),
    "image": replace(PRESETS["ci8x8-360p"], channels=4, encoder_blocks=1, decoder_blocks=2, norm_groups=1),
    "legacy": replace(VIDEO, legacy_upsample=True),
}


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_native_to_ours_and_back_keeps_every_bit(
    config: TokenizerConfig, dtype: torch.dtype, tmp_path: Path, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(config).to(dtype)
    weights = to_native(model, "both")
    dead = {"encoder.patcher3d.wavelets": torch.rand(2)} if config.media == "video" else {}
    torch.save(weights | dead, tmp_path / "model.pt")
    assert convert(tmp_path / "model.pt", tmp_path / "ours.safetensors") == [tmp_path / "ours.safetensors"]
    assert convert(tmp_path / "ours.safetensors", tmp_path / "back.pt", to="native") == [tmp_path / "back.pt"]
    assert equal(torch.load(tmp_path / "back.pt", weights_only=True), weights)
    assert load(tmp_path / "back.pt").fingerprint == model.fingerprint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_diffusers_and_back_keeps_every_bit_and_the_statistics(
    dtype: torch.dtype, tmp_path: Path, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(VIDEO).to(dtype)
    model.statistics = LatentStatistics(torch.randn(16, 5), torch.rand(16, 5) + 0.1)
    save(model, tmp_path / "ours.safetensors")
    assert convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers") == [tmp_path / "folder"]
    assert sorted(os.listdir(tmp_path / "folder")) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert convert(tmp_path / "folder", tmp_path / "n" / "a.pt", to="native") == [
        tmp_path / "n" / "a.pt",
        tmp_path / "n" / "mean_std.pt",
    ]
    convert(tmp_path / "n" / "a.pt", tmp_path / "again.safetensors", to="ours")
    assert equal(load_file(tmp_path / "again.safetensors"), load_file(tmp_path / "ours.safetensors"))


def test_a_half_converts_to_a_native_half(tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(VIDEO, parts="decoder")
    save(model, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "decoder.pt", to="native")
    assert equal(torch.load(tmp_path / "decoder.pt", weights_only=True), to_native(model, "decoder"))


def test_a_preset_and_a_dtype_reach_the_output(tmp_path: Path, random_tokenizer: Maker) -> None:
    config = replace(CONFIGS["image"], norm_groups=2)
    torch.save(to_native(random_tokenizer(config), "both"), tmp_path / "model.pt")
    convert(tmp_path / "model.pt", tmp_path / "ours.safetensors", preset=config, dtype=torch.bfloat16)
    assert load(tmp_path / "ours.safetensors").config == config
    assert load(tmp_path / "ours.safetensors").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIGS["discrete"], "only continuous video"),
        (CONFIGS["image"], "only continuous video"),
        (CONFIGS["legacy"], "legacy_upsample"),
        (replace(VIDEO, decoder_blocks=1), "decoder_blocks is 1"),
        (replace(VIDEO, z_channels=8), "z_channels is 8"),
        (replace(VIDEO, channel_multipliers=(1, 2, 2), norm_groups=2), "norm_groups is 2"),
        (
            replace(VIDEO, channel_multipliers=(1, 2), spatial_compression=8, temporal_compression=8),
            "after the last level",
        ),
    ],
)
def test_what_diffusers_has_no_class_for_is_refused(
    config: TokenizerConfig, message: str, tmp_path: Path, random_tokenizer: Maker
) -> None:
    save(random_tokenizer(config), tmp_path / "ours.safetensors")
    with pytest.raises(InputError, match=f"AutoencoderKLCosmos has no place for this tokenizer: .*{message}"):
        convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    assert os.listdir(tmp_path) == ["ours.safetensors"]


def test_half_a_network_is_no_diffusers_folder(tmp_path: Path, random_tokenizer: Maker) -> None:
    save(random_tokenizer(VIDEO, parts="encoder"), tmp_path / "ours.safetensors")
    with pytest.raises(InputError, match="it is one half"):
        convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")


def test_a_folder_in_use_is_not_replaced(tmp_path: Path, random_tokenizer: Maker) -> None:
    save(random_tokenizer(VIDEO), tmp_path / "ours.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="new or an empty folder"):
        convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    (tmp_path / "folder" / "notes.txt").unlink()
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    assert load(tmp_path / "folder").config == VIDEO


def test_statistics_of_another_checkpoint_are_not_replaced(tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(VIDEO)
    save(model, tmp_path / "without.safetensors")
    model.statistics = LatentStatistics(torch.randn(16, 5), torch.rand(16, 5) + 0.1)
    save(model, tmp_path / "with.safetensors")
    convert(tmp_path / "with.safetensors", tmp_path / "n" / "a.pt", to="native")
    convert(tmp_path / "with.safetensors", tmp_path / "n" / "a.pt", to="native")
    with pytest.raises(InputError, match="statistics of this checkpoint, which has none"):
        convert(tmp_path / "without.safetensors", tmp_path / "n" / "b.pt", to="native")
    torch.save((torch.zeros(16), torch.ones(16)), tmp_path / "n" / "mean_std.pt")
    with pytest.raises(InputError, match="statistics of another checkpoint"):
        convert(tmp_path / "with.safetensors", tmp_path / "n" / "c.pt", to="native")
    with pytest.raises(InputError, match="use another"):
        convert(tmp_path / "without.safetensors", tmp_path / "mean_std.pt", to="native")


@pytest.mark.parametrize("to", ["native", "diffusers"])
def test_a_failed_write_leaves_nothing(
    to: str, tmp_path: Path, random_tokenizer: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_tokenizer(VIDEO)
    model.statistics = LatentStatistics(torch.randn(16, 5), torch.rand(16, 5) + 0.1)
    save(model, tmp_path / "ours.safetensors")
    known = os.replace

    def full(source: Path, target: Path) -> None:
        if str(target).endswith(("config.json", "output")):
            raise OSError(28, "No space left on device")
        known(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        convert(tmp_path / "ours.safetensors", tmp_path / "output", to=to)
    assert os.listdir(tmp_path) == ["ours.safetensors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "only AutoencoderKLCosmos is read"),
        ({"patch_type": "rearrange"}, "patch_type 'rearrange'"),
        ({"in_channels": 4}, "in_channels 4"),
        ({"num_layers": "two"}, "no number"),
        ({"decode_block_out_channels": [4, 8, 12, 16]}, "one set of widths"),
        ({"encoder_block_out_channels": [8, 12, 12, 12], "decode_block_out_channels": [12] * 4}, "multiples"),
        ({"latents_mean": [0.0] * 17}, "17|rows of numbers"),
        ({"latents_std": [0.0] * 80}, "non-positive"),
        ({"latents_std": [1.0] * 16}, "80 latents_mean and 16 latents_std"),
        ({"temporal_compression_ratio": 4}, "is (missing|unexpected)"),
        ({"num_layers": 2}, "is missing"),
    ],
)
def test_a_config_json_that_does_not_fit_is_refused(
    change: dict[str, object], message: str, tmp_path: Path, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(VIDEO)
    model.statistics = LatentStatistics(torch.randn(16, 5), torch.rand(16, 5) + 0.1)
    save(model, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    path = tmp_path / "folder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load(tmp_path / "folder")


def test_a_layout_that_is_none_is_named(tmp_path: Path) -> None:
    unchecked = getattr(convert, "__wrapped__", convert)  # below the check of types at run time
    with pytest.raises(InputError, match="to is 'onnx': use 'ours', 'native' or 'diffusers'"):
        unchecked(tmp_path, tmp_path / "x", to="onnx")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_converted_on_a_gpu_is_read_without_one(tmp_path: Path, random_tokenizer: Maker) -> None:
    save(random_tokenizer(VIDEO), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "model.pt", to="native", device="cuda", dtype=torch.bfloat16)
    written = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {(value.device.type, value.dtype) for value in written.values()} == {("cpu", torch.bfloat16)}
