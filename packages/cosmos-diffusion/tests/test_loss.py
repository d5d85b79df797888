"""The training loss: what is drawn, what adds error, where it is least, and that it trains."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.conditioning import Given
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.loss import LOSSES, LossConfig, diffusion_loss
from cosmos_diffusion.noise import TrainingLevels
from cosmos_diffusion.uncertainty import Uncertainty
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError, LatentStatistics

TOY, VIDEO = PRESETS["toy"], PRESETS["toy-video"]
PLAIN = LossConfig(levels=TrainingLevels(), uncertainty=False, scale=1.0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What each call of ``WorldModel.denoise`` is told."""
    calls: list[dict] = []
    work = WorldModel.denoise

    def denoise(world: WorldModel, x: Tensor, sigma: Tensor, text: Tensor, **options: object) -> Tensor:
        calls.append({"x": x, "sigma": sigma, "text": text} | options)
        return work(world, x, sigma, text, **options)

    monkeypatch.setattr(WorldModel, "denoise", denoise)
    return calls


def silent(config: DiTConfig) -> WorldModel:
    """A world whose network says 0."""
    world = WorldModel(config)
    torch.nn.init.zeros_(world.net.last.weight)
    return world


def seeded(seed: int = 2) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["edm", "flow", "rectified"])
def test_loss_is_the_weighted_error_of_the_raw_output(name: str, randomised: Callable, told: list[dict]) -> None:
    world = randomised(WorldModel(replace(TOY, prediction=name)))
    raws: list[Tensor] = []
    world.net.register_forward_hook(lambda net, args, raw: raws.append(raw))
    x0, text = torch.randn(3, 16, 2, 4, 6), torch.randn(3, 5, 32)
    with torch.no_grad():
        found = diffusion_loss(world, x0, text, fps=24, config=replace(PLAIN, scale=3.0), generator=seeded())
    scales = world.preconditioning.scales(told[0]["sigma"])
    c_skip, c_out = (part[:, None, None, None, None] for part in scales[:2])
    target = (x0 - c_skip * told[0]["x"]) / c_out
    expected = (raws[0] - target).square().mean()
    torch.testing.assert_close(found["error"], expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(found["loss"], 3 * expected, rtol=1e-3, atol=0)


def test_noise_has_the_level_of_its_clip(told: list[dict]) -> None:
    x0 = torch.randn(6, 16, 4, 8, 8)
    diffusion_loss(silent(TOY), x0, torch.randn(6, 5, 32), fps=24, config=PLAIN, generator=seeded())
    sigma = told[0]["sigma"]
    torch.testing.assert_close((told[0]["x"] - x0).flatten(1).std(1), sigma, rtol=0.08, atol=0)
    levels = PLAIN.levels.sample(6, frames=4, generator=seeded())
    assert torch.equal(sigma, levels)


def test_frames_of_a_view_decide_its_noise_and_what_may_be_given(told: list[dict]) -> None:
    world = silent(replace(VIDEO, views=2, position="sincos"))
    x0, config = torch.randn(6, 16, 6, 4, 4), replace(PLAIN, given=(2,))
    diffusion_loss(world, x0, torch.zeros(6, 4, 32), fps=24, config=config, generator=seeded())
    assert torch.equal(told[0]["sigma"], PLAIN.levels.sample(6, frames=3, generator=seeded()))
    assert told[0]["given"].mask[0, 0, :, 0, 0].tolist() == [1, 1, 0] * 2


def test_clips_in_half_precision_are_noised_in_float32(told: list[dict]) -> None:
    x0, text = torch.randn(3, 16, 2, 4, 6).to(torch.bfloat16), torch.randn(3, 5, 32)
    world, config = silent(VIDEO), replace(PLAIN, given=(1,))
    low, exact = (diffusion_loss(world, x, text, fps=24, config=config, generator=seeded()) for x in (x0, x0.float()))
    assert told[0]["x"].dtype == torch.float32
    assert torch.equal(told[0]["given"].shown, told[1]["given"].shown)
    assert torch.equal(low["loss"], exact["loss"])


def test_given_frames_add_no_error() -> None:
    world = silent(VIDEO)
    x0, text = torch.randn(4, 16, 3, 4, 6), torch.randn(4, 5, 32)
    wild = x0.clone()
    wild[:, :, :2] *= 1e3
    free, given = (
        [
            diffusion_loss(world, x, text, fps=24, config=replace(PLAIN, given=(n,)), generator=seeded())["error"]
            for x in (x0, wild)
        ]
        for n in (0, 2)
    )
    assert free[1] > 1e3 * free[0]
    assert torch.equal(given[0], given[1])
    assert 0 < given[0] < 0.5 * free[0]


def test_numbers_of_given_frames_are_alike_likely_and_pictures_have_none(told: list[dict]) -> None:
    world = silent(VIDEO)
    x0, text = torch.zeros(300, 16, 3, 2, 2), torch.zeros(300, 2, 32)
    diffusion_loss(world, x0, text, fps=24, config=PLAIN, generator=seeded())
    given = told[0]["given"]
    assert isinstance(given, Given)
    counts = torch.bincount(given.mask[:, 0, :, 0, 0].sum(1).int(), minlength=4).tolist()
    assert sum(counts) == 300
    assert counts[3] == 0
    assert min(counts[:3]) > 70
    diffusion_loss(world, x0[:, :, :1], text, fps=None, config=PLAIN, generator=seeded())
    assert told[1]["given"].mask.sum() == 0
    with pytest.raises(InputError, match=r"given is \(0, 1, 2\), and a clip has 2 latent frames"):
        diffusion_loss(world, x0[:, :, :2], text, fps=24, config=PLAIN)


def test_given_frames_are_shown_with_a_noise_of_their_own(told: list[dict]) -> None:
    config = replace(PLAIN, given=(2,), augment_mean=-2.0, augment_std=0.5)
    x0 = torch.zeros(200, 16, 3, 4, 4)
    diffusion_loss(silent(VIDEO), x0, torch.zeros(200, 2, 32), fps=24, config=config, generator=seeded())
    shown = told[0]["given"].shown[:, :, :2].flatten(1).std(1)
    level = (0.25 * shown.square() / (1 - shown.square())).sqrt().log()  # shown = sigma / sqrt(sigma**2 + 0.25)
    assert level.mean().item() == pytest.approx(-2.0, abs=0.1)
    assert level.std().item() == pytest.approx(0.5, abs=0.08)


def test_text_dropout_has_its_share_of_zeros(told: list[dict]) -> None:
    text = torch.randn(400, 2, 32)
    config = replace(PLAIN, text_dropout=0.2)
    diffusion_loss(silent(TOY), torch.zeros(400, 16, 1, 2, 2), text, fps=None, config=config, generator=seeded())
    dropped = (told[0]["text"] == 0).all(2).all(1)
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=0.06)
    assert torch.equal(told[0]["text"][~dropped], text[~dropped])


def test_gradients_reach_every_weight(randomised: Callable) -> None:
    world = randomised(WorldModel(VIDEO)).train()
    diffusion_loss(world, torch.randn(2, 16, 3, 4, 6), torch.randn(2, 5, 32), fps=24, generator=seeded())[
        "loss"
    ].backward()
    for name, value in world.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_uncertainty_is_least_at_the_logarithm_of_the_weighted_error() -> None:
    """One level, and a network that does not learn: what is left to learn is the error itself."""
    world = silent(TOY)
    config = LossConfig(levels=TrainingLevels(mean=0.5, std=0.0), scale=2.0)
    x0, text = 1.5 * torch.randn(8, 16, 2, 4, 4), torch.zeros(8, 2, 32)

    def loss() -> dict[str, Tensor]:
        return diffusion_loss(world, x0, text, fps=24, config=config, generator=seeded())

    optimizer = torch.optim.SGD(world.uncertainty.parameters(), lr=1 / 256)
    for _ in range(12):
        optimizer.zero_grad()
        loss()["loss"].backward()
        optimizer.step()
    found = loss()
    least = found["error"].log()
    assert least > 0.3
    assert found["uncertainty"].item() == pytest.approx(least.item(), abs=0.01)
    assert found["loss"].item() == pytest.approx(2 * (1 + least.item()), abs=0.01)


@pytest.mark.parametrize("name", ["edm", "flow", "rectified"])
def test_a_few_clips_are_learned(name: str) -> None:
    small = {"blocks": 1, "width": 32, "latent_channels": 4, "text_width": 16, "text_length": 8, "grid": (4, 8, 8)}
    world = WorldModel(replace(VIDEO, prediction=name, **small))
    x0 = world.preconditioning.sigma_data * torch.randn(2, 4, 2, 2, 2).repeat(16, 1, 1, 1, 1)
    text = torch.randn(2, 3, 16).repeat(16, 1, 1)
    config = replace(PLAIN, given=(0, 1), levels=TrainingLevels(std=0.5))
    optimizer = torch.optim.Adam(world.parameters(), lr=0.01, betas=(0.9, 0.99))
    errors, generator = [], seeded()
    for _ in range(80):
        found = diffusion_loss(world, x0, text, fps=24, config=config, generator=generator)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        errors.append(found["error"].item())
    assert sum(errors[-5:]) < 0.1 * sum(errors[:5])


def test_pictures_and_videos_come_to_one_scale() -> None:
    video = LatentStatistics(torch.randn(16, 3), torch.rand(16, 3) + 0.5)
    picture = LatentStatistics(torch.randn(16, 1), torch.rand(16, 1) + 0.5)
    domains = Domains(video=video, picture=picture, sigma_data=0.5)
    for z, one in ((torch.randn(4000, 16, 3, 1, 1), False), (torch.randn(4000, 16, 1, 1, 1), True)):
        of = picture if one else video
        z = z * of.std[None, :, :, None, None] + of.mean[None, :, :, None, None]
        data = domains.to_data(z, picture=one)
        torch.testing.assert_close(data.std(0), torch.full_like(data[0], 0.5), rtol=0.08, atol=0)
        assert data.mean(0).abs().max() < 0.04
        torch.testing.assert_close(domains.to_latents(data, picture=one), z, atol=1e-4, rtol=1e-4)


def test_uncertainty_is_linear_on_fixed_waves_of_every_rate() -> None:
    uncertainty = Uncertainty()
    c_noise = torch.randn(5)
    waves = math.sqrt(2) * torch.cos(c_noise[:, None] * uncertainty.frequencies + uncertainty.phases)
    torch.testing.assert_close(uncertainty(c_noise), waves @ uncertainty.linear.weight[0])
    many = [Uncertainty() for _ in range(40)]
    frequencies, phases = (torch.cat([getattr(one, name) for one in many]) for name in ("frequencies", "phases"))
    assert frequencies.std().item() == pytest.approx(2 * math.pi, rel=0.05)
    assert phases.min() >= 0
    assert 6.2 < phases.max() <= 2 * math.pi
    assert phases.std().item() == pytest.approx(2 * math.pi / math.sqrt(12), rel=0.05)


def test_released_losses_are_scaled_and_shown_noise_as_published() -> None:
    assert {name: config.scale for name, config in LOSSES.items()} == {"edm": 10, "flow": 10, "rectified": 1}
    assert [name for name, config in LOSSES.items() if config.uncertainty] == ["edm"]
    for config in LOSSES.values():
        assert (config.given, config.augment_mean, config.augment_std) == ((0, 1, 2), -3.0, 2.0)
        assert config.text_dropout == 0


@pytest.mark.parametrize("name", LOSSES)
def test_the_released_settings_are_the_default(name: str) -> None:
    world = silent(replace(VIDEO, prediction=name))
    x0, text = torch.randn(2, 16, 3, 2, 2), torch.randn(2, 2, 32)
    one, other = (
        diffusion_loss(world, x0, text, fps=24, config=config, generator=seeded())["loss"]
        for config in (None, LOSSES[name])
    )
    assert torch.equal(one, other)
    assert math.isfinite(one.item())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": 0.0}, "scale is 0.0"),
        ({"text_dropout": 1.1}, "text_dropout is 1.1"),
        ({"given": ()}, r"given is \(\)"),
        ({"given": (-1,)}, r"given is \(-1,\)"),
        ({"augment_mean": float("-inf")}, "augment_mean is -inf"),
        ({"augment_std": -2.0}, "augment_std is -2.0"),
    ],
)
def test_values_out_of_range_are_named(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(PLAIN, **change)
