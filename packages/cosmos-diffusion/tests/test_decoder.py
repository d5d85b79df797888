"""The diffusion decoder: equal to a loop by hand, whole at any length, the same for a seed."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, save
from cosmos_diffusion.decoder import DiffusionDecoder
from cosmos_diffusion.defaults import RELEASED
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.residency import Residency
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import PRESETS as TOKENIZERS
from cosmos_tokenizer import CausalTokenizer, Geometry, InputError, LatentStatistics, hub
from cosmos_tokenizer import save as save_tokenizer

CODES = 50
CONFIG = replace(PRESETS["toy"], latent_channels=4, token_channels=6, token_codes=CODES, position="none", blocks=1)
TOKENS = Geometry(temporal=8, spatial=16)


@pytest.fixture
def codec(randomised: Callable) -> CausalTokenizer:
    codec = randomised(CausalTokenizer(TOKENIZERS["toy"]))
    codec.statistics = LatentStatistics(torch.randn(4, 3), torch.rand(4, 3) + 0.5)
    return codec


@pytest.fixture
def decoder(randomised: Callable, codec: CausalTokenizer) -> DiffusionDecoder:
    world = randomised(WorldModel(CONFIG))
    return DiffusionDecoder(world, codec, text=torch.randn(1, 5, 32), window=4, overlap=2)


def tokens(batch: int, frames: int, rows: int = 2, columns: int = 3) -> Tensor:
    return torch.randint(CODES, (batch, frames, rows, columns), dtype=torch.int32)


def noise_of(seed: int, frames: int) -> Tensor:
    return torch.randn(1, 4, frames, 4, 6, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def by_hand(decoder: DiffusionDecoder, shown: Tensor, x: Tensor, steps: int, weight: float) -> Tensor:
    """Euler over Karras' levels from 80 to 0.02 and then 0, with the network called plainly twice a step."""
    net, text = decoder.world.net, decoder.text
    assert text is not None
    ramp = torch.arange(steps, dtype=torch.float64) / max(1, steps - 1)
    levels = [*((80 ** (1 / 7) + ramp * (0.02 ** (1 / 7) - 80 ** (1 / 7))) ** 7).tolist(), 0.0]
    x = (levels[0] * x).double()
    for sigma, target in zip(levels, levels[1:], strict=False):
        norm = (sigma**2 + 0.25) ** 0.5
        c_noise = torch.tensor([sigma]).log() / 4
        raws = [
            net((x / norm).float(), c_noise, prompt, fps=24, tokens=seen)
            for prompt, seen in ((text, shown), (torch.zeros_like(text), torch.zeros_like(shown)))
        ]
        cond, uncond = (0.25 / norm**2 * x + 0.5 * sigma / norm * raw for raw in raws)
        x0 = cond + weight * (cond - uncond)
        x = x0 + target / sigma * (x - x0)
    statistics = decoder.domains.video
    row = torch.arange(x.shape[2]).clamp(max=statistics.mean.shape[1] - 1)
    mean, std = statistics.mean[None, :, row, None, None], statistics.std[None, :, row, None, None]
    return decoder.codec.decode((x / 0.5 * std + mean).float())


def test_one_window_equals_a_loop_by_hand(decoder: DiffusionDecoder) -> None:
    shown = tokens(1, 4)
    expected = by_hand(decoder, shown, noise_of(3, 4), steps=5, weight=1.8)
    torch.testing.assert_close(decoder.decode(shown, seed=3, steps=5), expected, rtol=0, atol=1e-5)


def test_windows_are_cross_faded_in_the_time_of_the_clip(decoder: DiffusionDecoder) -> None:
    """7 latent frames, 49 frames: windows of 25 begin at 0, 16 and 24, and fade over the last 9 that are there."""
    shown, noise = tokens(1, 7), noise_of(5, 7)
    first, second, third = (
        by_hand(decoder, shown[:, at : at + 4], noise[:, :, at : at + 4], steps=2, weight=0.7) for at in (0, 2, 3)
    )
    video = decoder.decode(shown, seed=5, steps=2, guidance=0.7)
    assert video.shape == (1, 3, 49, 32, 48)
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(video[:, :, :16], first[:, :, :16], **close)
    for k in range(9):
        seam = (1 - k / 8) * first[:, :, 16 + k] + k / 8 * second[:, :, k]
        torch.testing.assert_close(video[:, :, 16 + k], seam, **close)
    torch.testing.assert_close(video[:, :, 25:32], second[:, :, 9:16], **close)
    for k in range(9):
        seam = (1 - k / 8) * second[:, :, 16 + k] + k / 8 * third[:, :, 8 + k]
        torch.testing.assert_close(video[:, :, 32 + k], seam, **close)
    torch.testing.assert_close(video[:, :, 41:], third[:, :, 17:], **close)


@pytest.mark.parametrize(("frames", "mirrored"), [(3, [0, 1, 2, 1]), (2, [0, 1, 0, 1]), (1, [0, 0, 0, 0])])
def test_short_clip_is_continued_by_its_mirror_image(
    decoder: DiffusionDecoder, frames: int, mirrored: list[int]
) -> None:
    shown = tokens(1, frames)
    video = decoder.decode(shown, steps=2)
    assert video.shape[2] == TOKENS.frames(frames)
    torch.testing.assert_close(video, decoder.decode(shown[:, mirrored], steps=2)[:, :, : video.shape[2]])
    alone = decoder.decode(shown, steps=2, mirror=False)
    assert alone.shape == video.shape
    assert not torch.allclose(alone, video, atol=1e-3)


def test_clip_depends_on_its_seed_and_not_on_its_batch(decoder: DiffusionDecoder) -> None:
    shown = tokens(2, 5)
    video = decoder.decode(shown, seed=7, steps=2)
    assert torch.equal(video, decoder.decode(shown, seed=7, steps=2))
    torch.testing.assert_close(video[1:], decoder.decode(shown[1:], seed=8, steps=2), rtol=0, atol=1e-5)
    assert not torch.allclose(video[1:], decoder.decode(shown[1:], seed=7, steps=2), atol=1e-3)


def test_clip_is_cut_to_what_was_encoded(decoder: DiffusionDecoder) -> None:
    shown = tokens(1, 4)
    whole = decoder.decode(shown, steps=1)
    assert whole.shape == (1, 3, TOKENS.frames(4), 32, 48)
    cut = decoder.decode(shown, frames=19, size=(30, 40), steps=1)
    assert torch.equal(cut, whole[:, :, :19, :30, :40])


def test_guidance_acts_within_its_interval(decoder: DiffusionDecoder) -> None:
    shown = tokens(1, 4)
    plain = decoder.decode(shown, steps=3, guidance=0)
    guided = decoder.decode(shown, steps=3, guidance=3)
    between = decoder.decode(shown, steps=3, guidance=Guidance(weight=4, convention="between"))
    beyond_levels = decoder.decode(shown, steps=3, guidance=Guidance(weight=3, low=100))
    torch.testing.assert_close(between, guided)
    torch.testing.assert_close(beyond_levels, plain)
    assert not torch.allclose(guided, plain, atol=1e-3)


def test_text_of_a_call_stands_in_for_the_stored_one(decoder: DiffusionDecoder) -> None:
    shown, text = tokens(2, 4), torch.randn(2, 5, 32)
    told = decoder.decode(shown, steps=2, text=text)
    torch.testing.assert_close(told[1:], decoder.decode(shown[1:], steps=2, seed=1, text=text[1:]), rtol=0, atol=1e-5)
    assert not torch.allclose(told, decoder.decode(shown, steps=2), atol=1e-3)
    decoder.text = None
    assert torch.equal(decoder.decode(shown, steps=1), decoder.decode(shown, steps=1, text=torch.zeros(1, 16, 32)))


def test_network_and_codec_take_turns(decoder: DiffusionDecoder) -> None:
    shown = tokens(1, 6)
    expected = decoder.decode(shown, steps=1)
    residency = Residency("cpu")
    taking_turns = DiffusionDecoder(
        decoder.world, decoder.codec, text=decoder.text, window=4, overlap=2, residency=residency
    )
    assert torch.equal(taking_turns.decode(shown, steps=1), expected)
    assert residency.resident is decoder.codec


def test_loads_with_text_beside_the_weights_and_the_tokenizer_it_names(
    decoder: DiffusionDecoder, codec: CausalTokenizer, tmp_path: Path
) -> None:
    save_tokenizer(codec, tmp_path / "codec.safetensors")
    (tmp_path / "net").mkdir()
    named = replace(RELEASED["edm"], tokenizer=str(tmp_path / "codec.safetensors"))
    world = WorldModel(CONFIG, defaults=named)
    world.load_state_dict(decoder.world.state_dict())
    save(world, tmp_path / "net" / "model.safetensors")
    shown = tokens(1, 8)
    decoder.window = 8
    for text in (None, decoder.text):
        decoder.text = text
        if text is not None:
            torch.save({"context": text, "context_mask": torch.ones(1, 5)}, tmp_path / "net" / "aux_vars.pt")
        loaded = DiffusionDecoder.load(tmp_path / "net")
        assert (loaded.text is None) == (text is None)
        torch.testing.assert_close(loaded.decode(shown, steps=2), decoder.decode(shown, steps=2), rtol=0, atol=1e-5)
    other = torch.randn(1, 5, 32)
    assert DiffusionDecoder.load(tmp_path / "net", codec=codec, text=other).text is other


def test_hub_repository_gives_its_text_too(
    decoder: DiffusionDecoder, codec: CausalTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(decoder.world, tmp_path / "model.safetensors")
    asked = []

    def download(repository: str, groups: tuple[tuple[str, ...], ...], **_: object) -> Path:
        asked.append((repository, groups[0]))
        if groups == (("aux_vars.pt",),):
            torch.save({"context": decoder.text}, tmp_path / "aux_vars.pt")
        return tmp_path

    monkeypatch.setattr(hub, "download", download)
    loaded = DiffusionDecoder.load("somebody/decoder", codec=codec)
    assert ("somebody/decoder", ("aux_vars.pt",)) in asked
    assert loaded.text is not None
    assert decoder.text is not None
    assert torch.equal(loaded.text, decoder.text)


def test_scale_is_the_worlds_own_where_it_has_one(randomised: Callable, codec: CausalTokenizer) -> None:
    own = LatentStatistics(torch.zeros(4, 1), torch.ones(4, 1))
    domains = Domains(video=own, picture=own, sigma_data=0.5)
    world = WorldModel(CONFIG, domains=domains)
    assert DiffusionDecoder(world, codec).domains is domains
    assert DiffusionDecoder(WorldModel(CONFIG), codec).domains.video is codec.statistics
    codec.statistics = None
    with pytest.raises(InputError, match="give domains"):
        DiffusionDecoder(WorldModel(CONFIG), codec)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (torch.tensor([[[[0, CODES]]]]), {}, f"token {CODES} is out of range: this decoder's run from 0 to 49"),
        (torch.tensor([[[[-1, 3]]]]), {}, "token -1 is out of range"),
        (torch.zeros(1, 4, 2, 3), {}, "float32"),
        (torch.zeros(4, 2, 3, dtype=torch.int32), {}, r"\(4, 2, 3\): this decoder takes B x t x h x w"),
        (torch.zeros(0, 4, 2, 3, dtype=torch.int32), {}, r"\(0, 4, 2, 3\)"),
        (torch.zeros(1, 4, 17, 3, dtype=torch.int32), {}, "34 rows"),
        (torch.zeros(1, 4, 2, 3, dtype=torch.int32), {"frames": 17}, "17 frames do not belong to 4 latent frames"),
        (torch.zeros(1, 4, 2, 3, dtype=torch.int32), {"size": (48, 48)}, "48x48 does not belong to latents of 2x3"),
        (torch.zeros(1, 4, 2, 3, dtype=torch.int32), {"steps": 0}, "steps is 0"),
        (torch.zeros(1, 4, 2, 3, dtype=torch.int32), {"text": torch.zeros(3, 5, 32)}, "text is of 3 clips"),
        (torch.zeros(1, 4, 2, 3, dtype=torch.int32), {"text": torch.zeros(1, 5, 31)}, "B x S x 32"),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    decoder: DiffusionDecoder, given: Tensor, options: dict, message: str
) -> None:
    unchecked = inspect.unwrap(DiffusionDecoder.decode)  # below the check of shapes at run time
    with pytest.raises(InputError, match=message):
        unchecked(decoder, given, **options)


def test_networks_and_windows_that_do_not_fit_are_refused(codec: CausalTokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no tokens"):
        DiffusionDecoder(WorldModel(replace(CONFIG, token_channels=0)), codec)
    world = WorldModel(CONFIG)
    for window, overlap in ((4, 0), (4, 4), (17, 2)):
        with pytest.raises(InputError, match=f"window is {window} and overlap {overlap} .* 16, the most"):
            DiffusionDecoder(world, codec, window=window, overlap=overlap)
    with pytest.raises(InputError, match="spatial is 12"):
        DiffusionDecoder(world, codec, spatial=12)
    with pytest.raises(InputError, match="statistics are of 4 channels, and the network generates 16"):
        DiffusionDecoder(WorldModel(replace(CONFIG, latent_channels=16)), codec)
    save(world, tmp_path / "model.safetensors")
    torch.save({"other": torch.zeros(2)}, tmp_path / "aux_vars.pt")
    with pytest.raises(InputError, match="aux_vars.pt: holds no context"):
        DiffusionDecoder.load(tmp_path / "model.safetensors", codec=codec)
    (tmp_path / "aux_vars.pt").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match="aux_vars.pt: a truncated"):
        DiffusionDecoder.load(tmp_path / "model.safetensors", codec=codec)
    save(WorldModel(replace(CONFIG, token_channels=0)), tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="plain.safetensors: takes no tokens"):
        DiffusionDecoder.load(tmp_path / "plain.safetensors", codec=codec)
