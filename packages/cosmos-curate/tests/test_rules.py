"""Rules: what each operator keeps, ranks among what is left, nulls, replacing by name, and lines that say nothing."""

import math

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.rules import DEFAULT_RULES, Rule, apply, changed


def fails(test, *values, column="duration_s"):
    return list(Rule(name="r", test=test).failing({column: values}))


@pytest.mark.parametrize(
    ("test", "failing"),
    [
        ("duration_s >= 2", [0]),
        ("duration_s > 2", [0, 1]),
        ("duration_s<=2", [2]),
        ("duration_s < 2", [1, 2]),
        ("duration_s == 2", [0, 2]),
        ("duration_s != 2", [1]),
        ("duration_s in 1.5, 3", [1]),
        ("duration_s not in 1.5,3", [0, 2]),
    ],
)
def test_numbers(test, failing):
    assert fails(test, 1.5, 2.0, 3.0) == failing


def test_texts_lists_and_truth():
    assert fails("camera_motion != static", "static", "pan left", column="camera_motion") == [0]
    assert fails("camera_motion in pan left, shake", "static", "pan left", column="camera_motion") == [0]
    assert fails("tags in dog, cat", ["dog", "tree"], ["tree"], [], column="tags") == [1, 2]
    assert fails("tags not in dog, cat", ["dog", "tree"], ["tree"], [], column="tags") == [0]
    assert fails("variable_rate == false", True, False, column="variable_rate") == [0]


def test_what_was_not_measured_passes():
    assert fails("duration_s >= 2", None, math.nan, 1.0) == [2]
    assert fails("percentile(quality) >= 0.5", None, 1.0, 2.0, column="quality") == [1]


def test_either_of_two_is_enough():
    rows = {"camera_motion": ["static", "static", "shake"], "motion": [0.0, 0.5, 0.0]}
    assert Rule(name="s", test="camera_motion != static or motion >= 0.1").failing(rows) == {0: "static, 0.0"}


@pytest.mark.parametrize("count", [1, 6, 7, 20, 101])
def test_lowest_share_goes_and_order_does_not_matter(count):
    rng = np.random.default_rng(count)
    values = rng.normal(size=count)
    gone = fails("percentile(quality) >= 0.15", *values.tolist(), column="quality")
    assert abs(len(gone) - 0.15 * count) <= 0.5
    assert set(values[gone]) == set(np.sort(values)[: len(gone)])


def test_equal_values_fare_alike():
    assert fails("percentile(quality) >= 0.5", 1.0, 1.0, 1.0, 1.0, column="quality") == []
    assert fails("percentile(quality) > 0.5", 1.0, 1.0, column="quality") == [0, 1]


def test_first_rule_counts_and_ranks_are_of_what_is_left():
    rules = (Rule(name="length", test="duration_s >= 2"), Rule(name="quality", test="percentile(quality) >= 0.5"))
    rows = {"duration_s": [1.0, 1.0, 3.0, 3.0, 1.0], "quality": [0.0, 1.0, 2.0, 3.0, 9.0]}
    assert apply(rules, rows, [0, 1, 2, 3]) == {0: ("length", "1.0"), 1: ("length", "1.0"), 2: ("quality", "0.25")}


def test_rules_change_by_name():
    rules = changed(DEFAULT_RULES, ["length: duration_s >= 5", "text: off", "new: width >= 640"])
    assert [rule.name for rule in rules] == [r.name for r in DEFAULT_RULES if r.name != "text"] + ["new"]
    assert rules[0].test == "duration_s >= 5"


@pytest.mark.parametrize(
    "line",
    [
        "duration_s >= 3",
        "length:",
        ": duration_s >= 3",
        "nothing: off",
        "Big: duration_s >= 3",
        "a: duration_s",
        "a: lenght >= 3",
        "a: duration_s >= three",
        "a: duration_s >= nan",
        "a: camera_motion >= 3",
        "a: tags == dog",
        "a: percentile(caption) >= 0.1",
        "a: percentile(quality) in 1, 2",
        "a: camera_motion ==",
        "a: variable_rate == maybe",
        "a: windows == x",
        "a: width >= 1 or height",
    ],
)
def test_a_line_that_says_something_else_is_named(line):
    with pytest.raises(InputError, match="rule") as caught:
        changed(DEFAULT_RULES, [line])
    assert "\n" not in str(caught.value)
