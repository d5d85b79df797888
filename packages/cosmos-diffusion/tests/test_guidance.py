"""Guidance: both conventions, and within an interval alone."""

import pytest
import torch

from cosmos_diffusion.guidance import Guidance
from cosmos_tokenizer import InputError


def test_conventions_are_as_they_say() -> None:
    cond, uncond = torch.randn(2, 3, 5)
    torch.testing.assert_close(Guidance()(cond, uncond), cond + 7 * (cond - uncond))
    between = Guidance(weight=2.5, convention="between")
    torch.testing.assert_close(between(cond, uncond), uncond + 2.5 * (cond - uncond))
    torch.testing.assert_close(Guidance(weight=1.5)(cond, uncond), between(cond, uncond))


def test_guidance_acts_where_it_does_anything_within_its_interval() -> None:
    some = Guidance(weight=1, low=0.3, high=5)
    assert [some.acts(sigma) for sigma in (0.1, 0.3, 0.31, 5, 5.1)] == [False, False, True, True, False]
    assert not Guidance(weight=0).acts(1)
    assert not Guidance(weight=1, convention="between").acts(1)
    assert Guidance(weight=0, convention="between").acts(1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": float("nan")}, "guidance is nan"),
        ({"weight": float("-inf")}, "guidance is -inf"),
        ({"low": 2, "high": 2}, "between 2 and 2"),
        ({"low": -1}, "between -1"),
    ],
)
def test_values_out_of_range_are_named(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Guidance(**change)
