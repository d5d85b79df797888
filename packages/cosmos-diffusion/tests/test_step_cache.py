"""Reuse between steps: what is saved, that nothing is reused where it must not be, and that 0 changes no bit."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.denoiser import Denoiser
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.samplers import euler, res_2ab
from cosmos_diffusion.sigmas import karras
from cosmos_diffusion.step_cache import StepCache
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

VIDEO = replace(PRESETS["toy-video"], blocks=3)
CONFIGS = {
    "edm": VIDEO,
    "flow": replace(VIDEO, prediction="flow", position="none", rope_fps=False),
    "views": replace(VIDEO, views=2, position="sincos"),
    "action": replace(VIDEO, action_numbers=7),
}
ALWAYS = 1e9
STEPS = 5


@pytest.fixture
def make(randomised: Callable) -> Callable[..., Callable[..., Denoiser]]:
    """Return a maker of makers of denoisers of one random world and clip."""

    def world(config: DiTConfig) -> Callable[..., Denoiser]:
        model = randomised(WorldModel(config))
        views = max(1, config.views)
        text, negative = torch.randn(2, 2, 4 * views, config.text_width)
        given = model.given(torch.randn(2, 16, views, 4, 6), 6)
        conditions = Conditions(action=torch.randn(2, 7) if config.action_numbers else None)

        def denoiser(cache: StepCache | None, guidance: Guidance | int = 3) -> Denoiser:
            told = {"given": given, "conditions": conditions, "cache": cache}
            return model.denoiser(text, negative, guidance=guidance, fps=24, **told)

        return denoiser

    return world


def noise(seed: int = 1) -> Tensor:
    return 80 * torch.randn(2, 16, 6, 4, 6, generator=torch.Generator().manual_seed(seed))


def test_a_denoiser_reuses_nothing_of_one_that_is_gone(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmos_diffusion.denoiser.id", lambda _: 7, raising=False)  # it lies where the other lay
    denoiser, cache = make(VIDEO), StepCache(ALWAYS)
    for count in (1, 2):
        denoiser(cache)(noise(count), 1.0)
        assert (cache.run, cache.reused) == (count, 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_threshold_0_changes_no_bit(make: Callable, name: str) -> None:
    denoiser, cache = make(CONFIGS[name]), StepCache(0)
    assert torch.equal(euler(denoiser(cache), noise(), karras(STEPS)), euler(denoiser(None), noise(), karras(STEPS)))
    assert (cache.run, cache.reused) == (STEPS, 0)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("guidance", [0, 3])
def test_a_high_threshold_runs_the_blocks_once(make: Callable, name: str, guidance: int) -> None:
    denoiser, cache = make(CONFIGS[name]), StepCache(ALWAYS)
    denoise = denoiser(cache, guidance)
    blocks = list(denoise.net.blocks)
    calls: list[int] = []
    for index, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, index=index: calls.append(index))
    found = euler(denoise, noise(), karras(STEPS))
    assert (cache.run, cache.reused) == (1, STEPS - 1)
    assert [calls.count(index) for index in range(3)] == [STEPS, 1, 1]
    assert found.isfinite().all()
    assert (found - euler(denoiser(None, guidance), noise(), karras(STEPS))).abs().max() > 1e-3


def test_changes_add_up_until_the_blocks_run() -> None:
    cache, calls = StepCache(0.5), []
    outcomes = []
    x = torch.ones(1, 3, 4)
    for step in range(6):
        cache.begin("one")
        after = x + 1.2**step  # the residual grows by 0.2 of itself
        outcomes.append(cache(x, after, lambda h, step=step: (calls.append(step), h + 10 * step)[1]) - after)
    assert calls == [0, 3]
    assert (cache.run, cache.reused) == (2, 4)
    for outcome, step in zip(outcomes, [0, 0, 0, 3, 3, 3], strict=True):
        torch.testing.assert_close(outcome, torch.full_like(x, 10 * step))


def test_the_clip_that_changes_most_decides() -> None:
    cache, x = StepCache(0.5), torch.ones(2, 3, 4)
    for factor in (1.0, 1.6):
        cache(x, x + factor ** torch.tensor([0.0, 1.0]).view(2, 1, 1), lambda h: h)
    assert (cache.run, cache.reused) == (2, 0)


def test_a_second_sample_reuses_nothing_of_the_first(make: Callable) -> None:
    denoiser = make(VIDEO)
    denoise, cache = denoiser(StepCache(ALWAYS)), StepCache(ALWAYS)
    euler(denoise, noise(1), karras(STEPS))
    assert torch.equal(euler(denoise, noise(2), karras(STEPS)), euler(denoiser(cache), noise(2), karras(STEPS)))
    assert (cache.run, cache.reused) == (1, STEPS - 1)


def test_nothing_is_reused_where_guidance_begins_or_given_frames_end(make: Callable) -> None:
    denoiser, cache = make(VIDEO), StepCache(ALWAYS)
    sigmas = [80.0, 20.0, 10.0, 5.0, 1.0, 0.0005, 0.0002]
    denoise = denoiser(cache, Guidance(weight=3, low=2, high=30))
    runs = []
    for sigma in sigmas:  # alone, guided, guided, guided, alone, and at the last two no frame is given
        before = cache.run
        denoise(noise(), sigma)
        runs.append(cache.run - before)
    assert runs == [1, 1, 0, 0, 1, 1, 0]


def test_the_same_seed_gives_the_same_bits(make: Callable) -> None:
    denoiser, counts = make(VIDEO), []

    def sample() -> Tensor:
        cache = StepCache(0.01)
        found = res_2ab(denoiser(cache), noise(), karras(8))
        counts.append((cache.run, cache.reused))
        return found

    assert torch.equal(sample(), sample())
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0


def test_a_lower_threshold_is_nearer(make: Callable) -> None:
    denoiser = make(VIDEO)
    exact = euler(denoiser(None), noise(), karras(12))
    caches = [StepCache(threshold) for threshold in (0.01, 0.02, ALWAYS)]
    errors = [float((euler(denoiser(cache), noise(), karras(12)) - exact).square().mean()) for cache in caches]
    assert 0 < errors[0] < errors[1] < errors[2]
    assert caches[0].reused < caches[1].reused < caches[2].reused


def test_predictions_in_turn_are_refused() -> None:
    world = WorldModel(VIDEO)
    with pytest.raises(InputError, match="in one batch"):
        world.denoiser(torch.zeros(1, 4, 32), fps=24, together=False, cache=StepCache(0.1))


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf")])
def test_a_threshold_that_is_none_is_named(threshold: float) -> None:
    with pytest.raises(InputError, match="threshold of the step cache"):
        StepCache(threshold)
