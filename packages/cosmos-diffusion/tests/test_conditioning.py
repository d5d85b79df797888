"""Given frames: what the network sees of them, what it is told, and that they come back as they were."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.conditioning import begin_with, first_frames
from cosmos_diffusion.preconditioning import PRECONDITIONINGS
from cosmos_diffusion.samplers import dpmpp_2m, euler, heun, res_2ab, unipc
from cosmos_diffusion.sigmas import schedule
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

VIDEO = PRESETS["toy-video"]
KINDS = [VIDEO, replace(VIDEO, prediction="flow"), replace(VIDEO, prediction="rectified")]


def identity(world: WorldModel, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Let the network answer such that ``D(x) = x`` for what it sees, and keep what it is told."""
    told: list[dict] = []

    def forward(seen: Tensor, c_noise: Tensor, text: Tensor, **others: object) -> Tensor:
        told.append({"seen": seen, "c_noise": c_noise} | others)
        c = c_noise if c_noise.dim() == 1 else c_noise[:, -1]
        sigma = torch.exp(4 * c) if world.config.prediction == "edm" else c / (1 - c)
        scales = world.preconditioning.scales(sigma)
        return seen * ((1 - scales.c_skip) / (scales.c_in * scales.c_out))[:, None, None, None, None]

    monkeypatch.setattr(world.net, "forward", forward)
    return told


@pytest.mark.parametrize("frames", [0, 1, 2])
@pytest.mark.parametrize("sampler", [euler, heun, res_2ab, dpmpp_2m, unipc])
@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.prediction)
def test_given_frames_come_back_equal_from_an_identity(
    config: DiTConfig, sampler: Callable, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = WorldModel(config)
    identity(world, monkeypatch)
    known = torch.randn(2, 16, frames, 4, 6)
    given = world.given(known, 4)
    sigmas = schedule(config.prediction, 6)
    x = sigmas[0].item() * torch.randn(2, 16, 4, 4, 6)
    text = torch.zeros(2, 3, config.text_width)
    found = sampler(lambda x, sigma: world.denoise(x, sigma, text, fps=24, given=given), x, sigmas)
    assert torch.equal(found[:, :, :frames], known)
    torch.testing.assert_close(found[:, :, frames:], x[:, :, frames:], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.prediction)
def test_the_network_sees_the_same_at_every_step(config: DiTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    world = WorldModel(config)
    told = identity(world, monkeypatch)
    known = torch.randn(2, 16, 2, 4, 6)
    given = world.given(known, 5, generator=torch.Generator().manual_seed(4))
    x, text = torch.randn(2, 16, 5, 4, 6), torch.zeros(2, 3, config.text_width)
    for sigma in (80.0, 0.7):
        world.denoise(x, sigma, text, fps=24, given=given)
        scales = world.preconditioning.scales(torch.tensor(sigma))
        torch.testing.assert_close(told[-1]["seen"][:, :, 2:], scales.c_in * x[:, :, 2:])
        c_noise = told[-1]["c_noise"]
        if config.prediction == "edm":
            torch.testing.assert_close(c_noise, scales.c_noise.expand(2))
        else:
            at = {"flow": 1e-4 / (1 + 1e-4), "rectified": 1e-4}[config.prediction]
            torch.testing.assert_close(c_noise, torch.tensor([at, at, *[scales.c_noise] * 3]).expand(2, -1))
    first, second = told
    assert torch.equal(first["seen"][:, :, :2], second["seen"][:, :, :2])
    mask = torch.tensor([1.0, 1, 0, 0, 0])[:, None, None].expand(2, 1, -1, 4, 6)
    assert torch.equal(first["condition_mask"], mask)
    if config.prediction == "edm":
        shown = first["seen"][:, :, :2] * (0.25 + 0.001**2) ** 0.5
        assert (shown - known).std().item() == pytest.approx(0.001, rel=0.15)
    else:
        assert torch.equal(first["seen"][:, :, :2], known)


def test_at_levels_below_the_noise_shown_frames_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = WorldModel(VIDEO)
    told = identity(world, monkeypatch)
    given = world.given(torch.randn(1, 16, 2, 4, 4), 3, augment=0.5)
    x, text = torch.randn(1, 16, 3, 4, 4), torch.zeros(1, 3, VIDEO.text_width)
    for sigma in (0.5, 0.2):
        torch.testing.assert_close(world.denoise(x, sigma, text, fps=24, given=given), x, atol=1e-5, rtol=1e-5)
        assert told[-1]["condition_mask"][0, 0, :, 0, 0].tolist() == [1, 1, 0]
    assert torch.equal(world.denoise(x, 0.51, text, fps=24, given=given)[:, :, :2], given.latents[:, :, :2])


def test_frames_may_be_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    world = WorldModel(VIDEO)
    told = identity(world, monkeypatch)
    known = torch.randn(1, 16, 2, 4, 4)
    given = world.given(known, 3, augment=0)
    x, text = torch.randn(1, 16, 3, 4, 4), torch.zeros(1, 3, VIDEO.text_width)
    assert torch.equal(world.denoise(x, 1e-3, text, fps=24, given=given)[:, :, :2], known)
    torch.testing.assert_close(told[-1]["seen"][:, :, :2], known / 0.5)


def test_every_view_begins_with_its_own_frames() -> None:
    known = torch.randn(2, 16, 6, 4, 4)
    given = begin_with(PRECONDITIONINGS["flow"], known, 12, views=3)
    assert given.mask[0, 0, :, 0, 0].tolist() == [1, 1, 0, 0] * 3
    for view in range(3):
        assert torch.equal(given.latents[:, :, 4 * view : 4 * view + 2], known[:, :, 2 * view : 2 * view + 2])


def test_each_clip_may_have_another_number_of_given_frames() -> None:
    mask = first_frames(torch.tensor([0, 2, 1]), 3, views=2)
    assert mask[:, 0, :, 0, 0].tolist() == [[0] * 6, [1, 1, 0] * 2, [1, 0, 0] * 2]


@pytest.mark.parametrize(
    ("config", "frames", "options", "says"),
    [
        (VIDEO, 2, {}, "2 latent frames are given of 2"),
        (VIDEO, 4, {"views": 3}, "3 views need multiples of 3"),
        (VIDEO, 5, {"views": 2}, "2 views need multiples of 2"),
        (VIDEO, 4, {"augment": -0.1}, "augment is -0.1"),
        (KINDS[1], 4, {"augment": 0.1}, "shown given frames as they are"),
    ],
)
def test_frames_that_cannot_be_given_are_named(config: DiTConfig, frames: int, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        WorldModel(config).given(torch.zeros(1, 16, 2, 4, 4), frames, **options)


def test_a_network_that_takes_no_frames_says_so() -> None:
    world = WorldModel(PRESETS["toy"])
    text = torch.zeros(1, 3, world.config.text_width)
    with pytest.raises(InputError, match="text alone"):
        world.denoise(torch.zeros(1, 16, 3, 4, 4), 1.0, text, fps=24, given=world.given(torch.zeros(1, 16, 1, 4, 4), 3))


def test_frames_of_another_clip_are_named() -> None:
    world = WorldModel(VIDEO)
    text = torch.zeros(1, 3, world.config.text_width)
    with pytest.raises(InputError, match=r"given of a clip \(1, 16, 4, 4, 4\)"):
        world.denoise(torch.zeros(1, 16, 3, 4, 4), 1.0, text, fps=24, given=world.given(torch.zeros(1, 16, 1, 4, 4), 4))
