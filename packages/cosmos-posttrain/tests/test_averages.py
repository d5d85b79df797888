"""Moving averages: the power function's profile, plain decay, and weights that come back."""

import numpy as np
import pytest
import torch
from torch import nn

from cosmos_posttrain import Average
from cosmos_posttrain.averages import Averages, power
from cosmos_tokenizer import InputError


def profile(average: Average, steps: int) -> np.ndarray:
    """Weight of each step in the average behind the last, found by averaging unit vectors."""
    value = np.zeros(steps)
    for step in range(1, steps + 1):
        kept = average.kept(step)
        value *= kept
        value[step - 1] += 1 - kept
    return value


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_profile_is_a_power_function_of_the_width_asked_for(width: float) -> None:
    steps = 4000
    got = profile(Average(width=width), steps)
    assert got.sum() == pytest.approx(1)
    t = (np.arange(steps) + 0.5) / steps
    gamma = power(width)
    assert got * steps == pytest.approx((gamma + 1) * t**gamma, rel=0.02, abs=0.05)
    mean = (got * t).sum()
    assert np.sqrt((got * (t - mean) ** 2).sum()) == pytest.approx(width, rel=0.01)
    assert (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5 == pytest.approx(width)


def test_plain_decay_forgets_sooner_while_young() -> None:
    average = Average(decay=0.999)
    assert [average.kept(step) for step in (1, 2, 11)] == pytest.approx([0, 0.1, 10 / 19])
    assert average.kept(10**6) == 0.999
    assert profile(average, 50).sum() == pytest.approx(1)


def test_the_first_step_is_all_of_it_and_several_run_side_by_side() -> None:
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    averages = Averages({"w": parameter}, [Average(decay=0.5), Average(width=0.1)])
    expected = {"decay-0.5.w": torch.zeros(3), "width-0.1.w": torch.zeros(3)}
    for step in range(1, 6):
        with torch.no_grad():
            parameter.copy_(torch.randn(3))
        averages.update(step)
        for name, profile in zip(expected, averages.profiles, strict=True):
            kept = profile.kept(step)
            expected[name] = kept * expected[name] + (1 - kept) * parameter.detach().float()
    for name, value in averages.tensors().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name])


def test_weights_come_back_bit_for_bit_even_behind_an_error() -> None:
    parameter = nn.Parameter(torch.randn(5))
    averages = Averages({"w": parameter}, [Average(decay=0.9)])
    averages.update(1)
    with torch.no_grad():
        parameter.add_(1)
    own = parameter.detach().clone()
    with pytest.raises(ZeroDivisionError), averages.in_place():  # noqa: PT012
        assert torch.equal(parameter, averages.tensors()["decay-0.9.w"])
        raise ZeroDivisionError
    assert torch.equal(parameter, own)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give one of them"),
        ({"decay": 0.9, "width": 0.1}, "give one of them"),
        ({"decay": 1.0}, "decay is 1.0"),
        ({"width": 0.3}, "width is 0.3: it must lie between 0 and 0.289"),
    ],
)
def test_another_profile_is_refused(fields: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Average(**fields)
