"""The weights that ship inside the package: small, whole, described by their cards, and worth having."""

import re
from importlib import resources

import numpy as np
import pytest
import torch
from skimage import data

from cosmos_tokenizer import CausalTokenizer, check_codec, load
from cosmos_tokenizer.metrics import psnr_per_frame

SHIPPED = {"nano-cv4x8x8": 25.5, "nano-dv4x8x8": 22.5, "nano-cv8x8x8": 23.0, "nano-dv8x16x16": 18.5}
"""Name to a PSNR in dB that damaged or untrained weights miss by far on a panned photograph."""

WEIGHTS = resources.files("cosmos_tokenizer") / "weights"


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> tuple[str, CausalTokenizer]:
    return request.param, load(request.param)


def test_every_file_is_at_most_6_mb_and_has_its_card() -> None:
    files = sorted(path.name for path in WEIGHTS.iterdir())
    assert files == sorted(f"{name}{suffix}" for name in SHIPPED for suffix in (".md", ".safetensors"))
    assert all(len((WEIGHTS / f"{name}.safetensors").read_bytes()) <= 6_000_000 for name in SHIPPED)


def test_the_card_describes_these_weights(shipped: tuple[str, CausalTokenizer]) -> None:
    name, model = shipped
    card = (WEIGHTS / f"{name}.md").read_text("utf-8")
    stated = dict(re.findall(r"^\| (encoder|decoder) \| `([0-9a-f]{64})` \|$", card, re.MULTILINE))
    assert stated == model.fingerprint


def test_it_is_a_causal_codec_in_float32(shipped: tuple[str, CausalTokenizer]) -> None:
    assert shipped[1].dtype == torch.float32
    check_codec(shipped[1], tolerance=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_reconstructs_a_panned_photograph(shipped: tuple[str, CausalTokenizer], dtype: torch.dtype) -> None:
    name, model = shipped
    photograph = data.astronaut()
    frames = np.stack([photograph[100:196, 180 + 2 * t : 276 + 2 * t] for t in range(5)])
    clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.inference_mode():
        out = model.to(dtype).reconstruct(clip).float().clamp(-1, 1)
    psnr = psnr_per_frame(clip[0].permute(1, 2, 3, 0), out[0].permute(1, 2, 3, 0), data_range=2.0)
    assert psnr.mean() > SHIPPED[name]


@pytest.mark.parametrize("folded", [False, True], ids=["as trained", "folded"])
def test_both_halves_run_under_autocast(shipped: tuple[str, CausalTokenizer], folded: bool) -> None:
    model = shipped[1].fold() if folded else shipped[1]
    # Large enough for Winograd.
    video = torch.rand(1, 3, 9, 80, 80, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        z = model.encode_raw(video)
        tokens = model.quantised(z)
        clip = model.decode(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = [model.encode_raw(video), model.decode(tokens)]
            whole = model.reconstruct(video)
        assert torch.equal(model.decode(tokens), clip)
    assert whole.shape == video.shape
    for got, wanted in zip(rounded, (z, clip), strict=True):
        assert got.dtype == torch.float32
        assert not torch.equal(got, wanted)
        assert (got - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize("name", [name for name in SHIPPED if "-cv" in name])
def test_latents_of_continuous_ones_are_normalised_by_their_statistics(name: str) -> None:
    model = load(name)
    clip = torch.from_numpy(data.astronaut()[:256, :256].copy()).permute(2, 0, 1)[None, :, None] / 127.5 - 1
    with torch.inference_mode():
        z = model.encode(clip)
        normalised = model.normalize(z)
    assert 0.3 < normalised.std() < 3
    torch.testing.assert_close(model.denormalize(normalised), z, atol=1e-4, rtol=0)
