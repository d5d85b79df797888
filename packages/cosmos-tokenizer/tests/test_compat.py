"""``compat``: the calls of NVIDIA's library, padding and windows included."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, save
from cosmos_tokenizer.compat import (
    CausalVideoTokenizer,
    ImageTokenizer,
    config_of,
    load_decoder_model,
    load_encoder_model,
    load_model,
)
from cosmos_tokenizer.compat_arrays import (
    numpy2tensor,
    pad_image_batch,
    pad_video_batch,
    tensor2numpy,
    unpad_image_batch,
    unpad_video_batch,
)
from cosmos_tokenizer.native import to_native

Maker = Callable[..., CausalTokenizer]

CONFIGS = {
    name: replace(PRESETS[name], channels=4, encoder_blocks=1, decoder_blocks=2, norm_groups=1)
    for name in ("cv4x8x8-0.1", "cv8x8x8-0.1", "dv8x16x16-0.1", "ci8x8-0.1", "di16x16-360p")
}
ON_CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture
def checkpoint(tmp_path: Path, random_tokenizer: Maker) -> Callable[..., tuple[Path, CausalTokenizer]]:
    """Return a maker of a narrow network and of the file that holds it."""

    def make(name: str, parts: str = "both") -> tuple[Path, CausalTokenizer]:
        model = random_tokenizer(CONFIGS[name], parts=parts)
        path = tmp_path / f"{name}-{parts}.safetensors"
        save(model, path)
        return path, model

    return make


def clip(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("tokenizer", [CausalVideoTokenizer, ImageTokenizer])
def test_the_signature_is_that_of_the_reference(tokenizer: type) -> None:
    defaults = {name: value.default for name, value in inspect.signature(tokenizer).parameters.items()}
    assert defaults == {
        "checkpoint": None,
        "checkpoint_enc": None,
        "checkpoint_dec": None,
        "tokenizer_config": None,
        "device": "cuda",
        "dtype": "bfloat16",
    }


def test_a_window_is_seventeen_frames_by_default() -> None:
    assert inspect.signature(CausalVideoTokenizer.forward).parameters["temporal_window"].default == 17


@torch.no_grad()
def test_continuous_encode_gives_a_tuple_of_latents(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, model = checkpoint("cv8x8x8-0.1")
    tokenizer = CausalVideoTokenizer(checkpoint=path, **ON_CPU)
    x = torch.rand(2, 3, 9, 16, 32) * 2 - 1
    (latent,) = tokenizer.encode(x)
    assert torch.equal(latent, model.encode(x))
    assert not latent.requires_grad
    assert torch.equal(tokenizer.decode(latent), model.decode(latent))
    assert torch.equal(tokenizer.autoencode(x), model.reconstruct(x))


def test_discrete_encode_gives_indices_then_codes(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, model = checkpoint("dv8x16x16-0.1")
    tokenizer = CausalVideoTokenizer(checkpoint=path, **ON_CPU)
    x = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    indices, codes = tokenizer.encode(x)
    assert indices.dtype == torch.int32
    assert indices.shape == (1, 2, 2, 3)
    assert torch.equal(indices, model.encode(x))
    assert torch.equal(codes, model.codes(indices))
    assert torch.equal(tokenizer.decode(indices), tokenizer.autoencode(x))


@pytest.mark.parametrize("name", ["ci8x8-0.1", "di16x16-360p"])
def test_pictures_have_no_time_axis(name: str, checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, model = checkpoint(name)
    tokenizer = ImageTokenizer(checkpoint=path, **ON_CPU)
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    outputs = tokenizer.encode(x)
    assert torch.equal(outputs[0], model.encode(x))
    assert len(outputs) == (2 if model.config.levels else 1)
    assert all(output.dim() == (3 if output.dtype == torch.int32 else 4) for output in outputs)
    assert tokenizer.autoencode(x).shape == x.shape


def test_encode_pads_no_frames_and_refuses_sides_between_cells(
    checkpoint: Callable[..., tuple[Path, CausalTokenizer]],
) -> None:
    path, _ = checkpoint("cv8x8x8-0.1")
    tokenizer = CausalVideoTokenizer(checkpoint=path, **ON_CPU)
    (latent,) = tokenizer.encode(torch.zeros(1, 3, 72, 16, 16))
    assert latent.shape[2] == 10
    assert tokenizer.decode(latent).shape[2] == 73
    with pytest.raises(InputError, match="20x16 .* multiples of 8"):
        tokenizer.encode(torch.zeros(1, 3, 9, 20, 16))
    with pytest.raises(InputError, match="5 axes"):
        tokenizer.encode(torch.zeros(1, 3, 16, 16))


def test_the_default_type_is_bfloat16(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, _ = checkpoint("cv8x8x8-0.1")
    tokenizer = CausalVideoTokenizer(checkpoint=path, device="cpu")
    assert tokenizer.encode(torch.zeros(1, 3, 1, 16, 16))[0].dtype == torch.bfloat16
    assert tokenizer(clip(1, 3, 20, 18)).dtype == np.uint8


@torch.no_grad()
def test_halves_from_two_files_work_together(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    (both, model), (encoder, _), (decoder, _) = (checkpoint("cv8x8x8-0.1", p) for p in ("both", "encoder", "decoder"))
    x = torch.rand(1, 3, 9, 16, 16)
    apart = CausalVideoTokenizer(checkpoint_enc=encoder, checkpoint_dec=decoder, **ON_CPU)
    torch.testing.assert_close(apart.autoencode(x).shape, model.reconstruct(x).shape)
    only = CausalVideoTokenizer(checkpoint_enc=both, **ON_CPU)
    assert torch.equal(only.encode(x)[0], model.encode(x))
    with pytest.raises(InputError, match="there is no decoder: give checkpoint= or checkpoint_dec="):
        only.decode(only.encode(x)[0])
    with pytest.raises(InputError, match="holds no decoder"):
        CausalVideoTokenizer(checkpoint=encoder, **ON_CPU)


def reconstructed(model: CausalTokenizer, padded: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(padded).movedim(-1, 1).float() / 127.5 - 1
    with torch.no_grad():
        y = model.reconstruct(x)
    return ((y.clamp(-1, 1) + 1) * 127.5 + 0.5).floor().to(torch.uint8).movedim(1, -1).numpy()


@pytest.mark.parametrize("name", ["cv4x8x8-0.1", "cv8x8x8-0.1", "dv8x16x16-0.1"])
def test_windows_are_padded_and_rebuilt_each_for_itself(
    name: str, checkpoint: Callable[..., tuple[Path, CausalTokenizer]]
) -> None:
    path, model = checkpoint(name)
    video = clip(2, 13, 20, 37)
    output = CausalVideoTokenizer(checkpoint=path, **ON_CPU)(video, temporal_window=9)
    assert output.shape == video.shape
    assert output.dtype == np.uint8

    black = np.zeros((2, 9, 32, 48, 3), np.uint8)
    black[:, :, 6:26, 5:42] = video[:, :9]
    first = reconstructed(model, black)[:, :, 6:26, 5:42]
    # Four frames are left: two copies of the first in front, three of the last behind.
    black[:, :, 6:26, 5:42] = video[:, [9, 9, 9, 10, 11, 12, 12, 12, 12]]
    second = reconstructed(model, black)[:, 2:6, 6:26, 5:42]
    expected = np.concatenate([first, second], axis=1).astype(int)
    assert np.abs(output.astype(int) - expected).max() <= 1
    assert (output == expected).mean() > 0.999


def test_pictures_are_padded_centred(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, model = checkpoint("ci8x8-0.1")
    picture = clip(2, 21, 32)
    output = ImageTokenizer(checkpoint=path, **ON_CPU)(picture)
    black = np.zeros((2, 32, 32, 3), np.uint8)
    black[:, 5:26] = picture
    expected = reconstructed(model, black)[:, 5:26].astype(int)
    assert output.shape == picture.shape
    assert np.abs(output.astype(int) - expected).max() <= 1


def test_bytes_to_tensor_and_back_is_exact() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    x = numpy2tensor(values, dtype=torch.float32, device="cpu")
    assert (x.shape, float(x.min()), float(x.max())) == ((1, 3, 16, 16), -1.0, 1.0)
    assert np.array_equal(tensor2numpy(x), values)
    assert tensor2numpy(torch.full((1, 3, 1, 1), 1.7)).max() == 255
    assert tensor2numpy(torch.full((1, 3, 1, 1), -1.7)).max() == 0


@pytest.mark.parametrize("frames", [1, 2, 8, 9, 10, 17])
def test_padding_is_undone(frames: int) -> None:
    video = clip(1, frames, 33, 16)
    padded, crop = pad_video_batch(video)
    assert padded.shape[1] % 8 == 1
    assert padded.shape[2:4] == (48, 16)
    assert crop[0] == (padded.shape[1] - frames) // 2
    assert np.array_equal(unpad_video_batch(padded, crop), video)
    assert (padded[:, :, :7] == 0).all()
    assert (padded[:, -1, 7:40] == video[:, -1]).all()
    picture, crop = pad_image_batch(video[:, 0])
    assert np.array_equal(unpad_image_batch(picture, crop), video[:, 0])


@pytest.mark.parametrize("name", ["cv8x8x8-720p", "dv8x16x16-720p", "ci8x8-360p", "di8x8-360p", "di16x16-360p"])
def test_a_config_of_the_reference_is_the_preset(name: str) -> None:
    config = PRESETS[name]
    fields = {
        "attn_resolutions": [32],
        "channels": 128,
        "channels_mult": [2, 4, 4],
        "dropout": 0.0,
        "in_channels": 3,
        "out_channels": 3,
        "spatial_compression": config.spatial_compression,
        "num_res_blocks": 2,
        "resolution": 1024,
        "patch_size": config.patch_size,
        "patch_method": "haar",
        "z_channels": config.z_channels,
        "z_factor": 1,
        "name": name[:2].upper(),
        "formulation": "AE",
        "legacy_mode": False,
    }
    if config.media == "video":
        fields |= {"temporal_compression": config.temporal_compression, "num_groups": 1}
    fields |= {"levels": [8, 8, 8, 5, 5, 5], "embedding_dim": 6} if config.levels else {"latent_channels": 16}
    assert config_of(fields) == config


def test_a_config_says_what_the_checkpoint_cannot(tmp_path: Path, random_tokenizer: Maker) -> None:
    config = replace(CONFIGS["ci8x8-0.1"], norm_groups=4)
    torch.save(to_native(random_tokenizer(config), "both"), tmp_path / "model.pt")
    tokenizer = ImageTokenizer(tmp_path / "model.pt", tokenizer_config={"num_groups": 4}, **ON_CPU)
    assert tokenizer._encoder.config == config


@pytest.mark.parametrize(
    "fields",
    [
        {"formulation": "VAE"},
        {"patch_method": "rearrange"},
        {"z_factor": 2},
        {"channels": "many"},
        {"channels_mult": 4},
    ],
)
def test_a_config_of_something_else_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"tokenizer_config has .*{next(iter(fields))}"):
        config_of(fields)


def test_loaders_ask_for_their_half(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    encoder, _ = checkpoint("cv8x8x8-0.1", "encoder")
    assert load_encoder_model(encoder, device="cpu").decoder is None
    for loader in (load_model, load_decoder_model):
        with pytest.raises(InputError, match="holds no decoder"):
            loader(encoder, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_way_out_is_named(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, _ = checkpoint("cv8x8x8-0.1")
    with pytest.raises(InputError, match="one of cpu"):
        CausalVideoTokenizer(checkpoint=path)


def test_wrong_arguments_are_one_line(checkpoint: Callable[..., tuple[Path, CausalTokenizer]]) -> None:
    path, _ = checkpoint("ci8x8-0.1")
    with pytest.raises(InputError, match="no checkpoint is given"):
        ImageTokenizer(**ON_CPU)
    with pytest.raises(InputError, match="of image, and CausalVideoTokenizer of video"):
        CausalVideoTokenizer(path, **ON_CPU)
    with pytest.raises(InputError, match="dtype is 'int8'"):
        ImageTokenizer(path, device="cpu", dtype="int8")
    with pytest.raises(InputError, match="temporal_window is 0"):
        CausalVideoTokenizer(checkpoint("cv8x8x8-0.1")[0], **ON_CPU)(clip(1, 3, 16, 16), temporal_window=0)
