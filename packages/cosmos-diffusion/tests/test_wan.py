"""Wan 2.1's codec: what ``check_codec`` asks, diffusers' own numbers, and one line for what cannot be loaded."""

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from safetensors.torch import load_file, save_file

from cosmos_diffusion.wan import WanCodec
from cosmos_tokenizer import ContinuousCodec, Geometry, InputError, check_codec, hub

MEAN, STD = [0.3, -0.7, 1.5], [0.5, 2.0, 1.25]
TINY = {"base_dim": 4, "dim_mult": [1, 1, 2, 1], "num_res_blocks": 1, "z_dim": 3}


@pytest.fixture
def vae(randomised: Callable) -> AutoencoderKLWan:
    return randomised(AutoencoderKLWan(**TINY, latents_mean=MEAN, latents_std=STD))


@torch.no_grad()
def test_is_a_codec(vae: AutoencoderKLWan) -> None:
    codec = WanCodec(vae)
    assert isinstance(codec, ContinuousCodec)
    assert codec.geometry == Geometry(temporal=4, spatial=8)
    check_codec(codec)
    check_codec(codec, frames=1, size=(17, 50))


@torch.no_grad()
def test_latents_are_diffusers_mode_normalised_by_channel(vae: AutoencoderKLWan) -> None:
    codec, video = WanCodec(vae), torch.rand(2, 3, 9, 24, 40) * 2 - 1
    mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in (MEAN, STD))
    (posterior,) = vae.encode(video, return_dict=False)
    raw = posterior.mode()
    latents = codec.encode(video)
    assert latents.shape == (2, 3, 3, 3, 5)
    torch.testing.assert_close(latents, (raw - mean) / std)
    torch.testing.assert_close(codec.decode(latents), vae.decode(raw, return_dict=False)[0])
    assert codec.statistics is not None
    assert torch.equal(codec.statistics.normalize(latents), latents)  # they are at that scale already


@torch.no_grad()
def test_clips_are_extended_by_their_last_frame_row_and_column(vae: AutoencoderKLWan) -> None:
    codec, video = WanCodec(vae), torch.rand(1, 3, 6, 17, 22) * 2 - 1
    whole = video[:, :, [0, 1, 2, 3, 4, *[5] * 4]][:, :, :, [*range(17), *[16] * 7]][..., [*range(22), *[21] * 2]]
    assert whole.shape == (1, 3, 9, 24, 24)
    torch.testing.assert_close(codec.encode(video), codec.encode(whole))


@torch.no_grad()
def test_loads_a_folder_a_pipeline_and_a_hub_id(
    vae: AutoencoderKLWan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae.save_pretrained(tmp_path / "pipeline" / "vae")
    video = torch.rand(1, 3, 6, 16, 16)
    expected = WanCodec(vae).encode(video)

    def download(repository: str, groups: object, *, subfolder: str, **_: object) -> Path:
        assert (repository, subfolder) == ("somebody/predict2", "vae/")
        return tmp_path / "pipeline"

    monkeypatch.setattr(hub, "download", download)
    for source in (tmp_path / "pipeline" / "vae", str(tmp_path / "pipeline"), "somebody/predict2"):
        codec = WanCodec.load(source)
        assert not codec.training
        torch.testing.assert_close(codec.encode(video), expected)
    half = WanCodec.load(tmp_path / "pipeline", dtype=torch.bfloat16)
    assert half.encode(video).dtype == half.dtype == torch.bfloat16
    torch.testing.assert_close(half.encode(video).float(), expected, rtol=0.05, atol=0.05)


@torch.no_grad()
def test_loads_shards(vae: AutoencoderKLWan, tmp_path: Path) -> None:
    vae.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    video = torch.rand(1, 3, 1, 16, 16)
    torch.testing.assert_close(WanCodec.load(tmp_path).encode(video), WanCodec(vae).encode(video))


def test_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r'pip install "cosmos-diffusion\[wan\]"'):
        WanCodec.load(tmp_path)


def test_damaged_and_foreign_folders_are_refused(vae: AutoencoderKLWan, tmp_path: Path) -> None:
    weights, config = tmp_path / "diffusion_pytorch_model.safetensors", tmp_path / "config.json"
    with pytest.raises(InputError, match=r"holds no config\.json"):
        WanCodec.load(tmp_path)
    vae.save_pretrained(tmp_path)
    whole, said = load_file(weights), json.loads(config.read_text())
    whole = {name: value.clone() for name, value in whole.items()}
    first = next(iter(vae.state_dict()))
    for changed, message in (
        ({name: value for name, value in whole.items() if name != first}, f"key {first} is missing"),
        (whole | {"extra": torch.zeros(1)}, "key extra is unexpected"),
        (whole | {first: whole[first].flatten()}, f"key {first} has shape"),
        (whole | {first: whole[first] * torch.nan}, f"key {first} holds NaN"),
    ):
        save_file(changed, weights)
        with pytest.raises(InputError, match=f"model.safetensors: {message}"):
            WanCodec.load(tmp_path)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        WanCodec.load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match="holds no diffusion_pytorch_model"):
        WanCodec.load(tmp_path)
    for fields, message in (
        (said | {"dim_mult": "many"}, "describes no AutoencoderKLWan"),
        (said | {"_class_name": "AutoencoderKL"}, "_class_name 'AutoencoderKL'"),
        (["no object"], "_class_name None"),
    ):
        config.write_text(json.dumps(fields))
        with pytest.raises(InputError, match=message):
            WanCodec.load(tmp_path)
    config.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        WanCodec.load(tmp_path)


def test_other_autoencoders_are_refused() -> None:
    with pytest.raises(InputError, match="Linear: is no AutoencoderKLWan"):
        WanCodec(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="AutoencoderKL: is no AutoencoderKLWan"):
        WanCodec(AutoencoderKL(block_out_channels=(4,), norm_num_groups=2))
    with pytest.raises(InputError, match="8 frames to one"):
        WanCodec(AutoencoderKLWan(**TINY, temperal_downsample=[True, True, True]))


def test_clips_and_latents_that_do_not_fit_are_refused(vae: AutoencoderKLWan) -> None:
    codec = WanCodec(vae)
    encode, decode = (inspect.unwrap(method) for method in (WanCodec.encode, WanCodec.decode))
    for video, message in (
        (torch.zeros(3, 5, 16, 16), r"\(3, 5, 16, 16\): this codec takes B x 3 x T"),
        (torch.zeros(1, 4, 5, 16, 16), r"\(1, 4, 5, 16, 16\)"),
        (torch.zeros(0, 3, 5, 16, 16), r"\(0, 3, 5, 16, 16\)"),
        (torch.zeros(1, 3, 5, 16, 16, dtype=torch.uint8), "uint8: scale it"),
        (torch.zeros(1, 3, 5, 8, 16), "8x16 is too small"),
        (torch.zeros(1, 3, 0, 16, 16), "0 frames"),
    ):
        with pytest.raises(InputError, match=message):
            encode(codec, video)
    latents = torch.zeros(1, 3, 2, 2, 2)
    for tokens, options, message in (
        (latents[:, :2], {}, r"\(1, 2, 2, 2, 2\): this codec takes B x 3 x t"),
        (latents.int(), {}, "int32"),
        (latents, {"frames": 6}, "6 frames do not belong to 2 latent frames"),
        (latents, {"size": (17, 16)}, "17x16 does not belong to latents of 2x2"),
    ):
        with pytest.raises(InputError, match=message):
            decode(codec, tokens, **options)
