"""Training levels and draws: distributions as published, and every draw from the generator."""

import math

import pytest
import torch

from cosmos_diffusion.noise import TRAINING_LEVELS, TrainingLevels, gaussian
from cosmos_diffusion.sigmas import time_of
from cosmos_tokenizer import InputError

COUNT = 40000


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("frames", "factor"), [(1, 1.0), (5, 5**0.5), (16, 4.0)])
def test_levels_are_lognormal_times_the_root_of_the_frames(frames: int, factor: float) -> None:
    logs = TrainingLevels(mean=-0.4, std=1.3).sample(COUNT, frames=frames, generator=seeded()).log()
    assert logs.mean().item() == pytest.approx(-0.4 + math.log(factor), abs=0.03)
    assert logs.std().item() == pytest.approx(1.3, abs=0.03)
    alike = TrainingLevels(mean=-0.4, std=1.3, by_frames=False).sample(COUNT, frames=frames, generator=seeded()).log()
    torch.testing.assert_close(logs - alike, torch.full_like(logs, math.log(factor)))


def test_the_tail_is_loguniform_and_has_its_share() -> None:
    levels = TrainingLevels(std=0.5, tail=0.25, tail_range=(200.0, 5000.0))
    sigma = levels.sample(COUNT, frames=1, generator=seeded())
    far = sigma[sigma >= 199.9]
    assert len(far) / COUNT == pytest.approx(0.25, abs=0.02)
    assert far.max() <= 5001
    quarters = torch.histc((far / 200).log() / math.log(25), bins=4, min=0, max=1) / len(far)
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_rectified_time_is_logit_normal_and_shifted() -> None:
    time = time_of(TRAINING_LEVELS["rectified"].sample(COUNT, frames=24, generator=seeded()))
    plain = torch.sigmoid(gaussian((COUNT,), generator=seeded()))
    torch.testing.assert_close(time, 5 * plain / (1 + 4 * plain), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["edm", "flow"])
def test_released_levels_grow_with_the_frames_and_flows_have_a_tail(name: str) -> None:
    sigma = TRAINING_LEVELS[name].sample(COUNT, frames=16, generator=seeded())
    near = sigma[sigma < 200].log()
    assert near.median().item() == pytest.approx(math.log(4), abs=0.03)
    assert (near > math.log(100)).sum() / COUNT < 0.002
    far = sigma[sigma >= 200]
    assert len(far) / COUNT == pytest.approx(0.05 if name == "flow" else 0.0, abs=0.005)
    if name == "flow":
        assert 200 <= far.min() < 210
        assert 9e4 < far.max() <= 1.0001e5


def test_draws_follow_from_the_generator() -> None:
    levels = TRAINING_LEVELS["flow"]
    one, same = (levels.sample(7, frames=3, generator=seeded(5)) for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, levels.sample(7, frames=3, generator=seeded(6)))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    levels.sample(7, frames=3, generator=seeded(5))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": float("nan")}, "mean is nan"),
        ({"std": -1.0}, "std is -1.0"),
        ({"std": float("inf")}, "std is inf"),
        ({"shift": 0.0}, "shift is 0.0"),
        ({"tail": 1.5}, "tail is 1.5"),
        ({"tail_range": (5.0, 2.0)}, "tail_range is"),
    ],
)
def test_values_out_of_range_are_named(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainingLevels(**change)
