"""Learning rates: warm-up, flat stretch, constant, cosine and linear-to-zero."""

import math
from inspect import unwrap

import pytest

from cosmos_posttrain import Schedule
from cosmos_tokenizer import InputError


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    schedule = Schedule(warmup=10)
    assert [schedule.factor(step, 100) for step in (0, 4, 9, 10, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1])


def test_a_cosine_takes_what_the_flat_stretch_leaves() -> None:
    schedule = Schedule(warmup=10, shape="cosine", flat=0.5, final=0.1)
    assert schedule.factor(30, 100) == schedule.factor(50, 100) == 1
    assert schedule.factor(75, 100) == pytest.approx(0.55)
    assert schedule.factor(99, 100) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 49 / 50)) / 2)


def test_linear_goes_to_zero_from_the_warm_up() -> None:
    schedule = Schedule(warmup=20, shape="linear")
    assert [schedule.factor(step, 120) for step in (20, 70, 119)] == pytest.approx([1, 0.5, 0.01])


def test_a_run_that_is_all_warm_up_has_no_division_by_zero() -> None:
    assert Schedule(warmup=5, shape="cosine").factor(4, 5) == 1
    assert Schedule(shape="linear", flat=1.0).factor(9, 10) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warmup": -1}, "warmup is -1"),
        ({"shape": "square"}, "shape is 'square': use constant, cosine or linear"),
        ({"flat": 1.5}, "flat is 1.5"),
        ({"final": -0.1}, "final is -0.1"),
    ],
)
def test_another_schedule_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        unwrap(Schedule.__init__)(object.__new__(Schedule), **fields)
