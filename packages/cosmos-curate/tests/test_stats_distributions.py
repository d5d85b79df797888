"""Which bar a value falls into, what is in none, and what the mix counts."""

import math

import numpy as np
import pytest

from cosmos_curate.content.mix import PAPER_TARGET
from cosmos_curate.schema import VIDEO_TYPES
from cosmos_curate.stats.distributions import COLUMNS, EDGES, distributions


def columns(count, **given):
    """Columns of so many clips, all kept; what is not given is null."""
    plain = {"keep": [True] * count, "repeats": [1] * count}
    return {name: given.get(name, plain.get(name, [None] * count)) for name in COLUMNS}


def named(found, name):
    return next(one for one in found if one.name == name)


@pytest.mark.parametrize("name", [name for name in EDGES if name != "short_side"])
def test_a_range_holds_its_lower_end_and_not_its_upper_one(name):
    edges = EDGES[name][1]
    values = [value for edge in edges for value in (np.nextafter(edge, -math.inf).item(), edge)]
    found = named(distributions(columns(len(values), **{name: values})), name)
    assert found.kept == (1, *[2] * (len(edges) - 1), 1)
    assert found.labels[0] == f"below {edges[0]:g}"
    assert found.labels[1] == f"{edges[0]:g} to {edges[1]:g}"
    assert found.labels[-1] == f"{edges[-1]:g} and more"


def test_the_ends_are_open_and_what_is_no_number_is_in_no_bar():
    values = [-math.inf, -1.0, 0, math.inf, 1e300, math.nan, None]
    found = named(distributions(columns(7, duration_s=values)), "duration_s")
    assert (found.kept[0], found.kept[-1], sum(found.kept)) == (3, 2, 5)
    found = distributions(columns(2, motion=[math.nan, None], video_type=["other", None]))
    assert [one.name for one in found] == ["video_type", "mix"]


def test_random_clips_are_each_counted_once_as_kept_or_dropped():
    rng = np.random.default_rng(0)
    values, keep = rng.uniform(0, 90, 500).tolist(), (rng.random(500) < 0.4).tolist()
    found = named(distributions(columns(500, duration_s=values, keep=keep)), "duration_s")
    edges = [-1, *EDGES["duration_s"][1], 1000]
    kept = np.histogram([v for v, stays in zip(values, keep, strict=True) if stays], edges)[0]
    assert found.kept == tuple(kept.tolist())
    assert np.add(found.kept, found.dropped).tolist() == np.histogram(values, edges)[0].tolist()


def test_resolution_is_of_the_shorter_side_however_the_picture_stands():
    found = named(distributions(columns(4, width=[1920, 1080, 640, None], height=[1080, 1920, 360, 360])), "short_side")
    assert dict(zip(found.labels, found.kept, strict=True))["1080 to 2160"] == 2
    assert dict(zip(found.labels, found.kept, strict=True))["360 to 480"] == 1
    assert sum(found.kept) == 3


def test_names_come_in_their_own_order_and_only_those_that_occur():
    given = {"camera_motion": ["zoom in", "static", "static", None], "keep": [True, True, False, True]}
    found = named(distributions(columns(4, **given)), "camera_motion")
    assert (found.labels, found.kept, found.dropped) == (("static", "zoom in"), (1, 1), (1, 0))


def test_the_mix_counts_repeats_and_takes_clips_without_a_type_for_other():
    kinds = ["driving", "driving", None, "other", "first-person view"]
    given = {"video_type": kinds, "repeats": [3, 0, 2, 1, None], "keep": [True, False, True, True, False]}
    found = named(distributions(columns(5, **given)), "mix")
    assert found.labels == VIDEO_TYPES
    assert dict(zip(found.labels, found.kept, strict=True)) == dict.fromkeys(VIDEO_TYPES, 0) | {
        "driving": 3,
        "other": 3,
    }
    assert found.target == tuple(PAPER_TARGET[kind] for kind in VIDEO_TYPES)
    found = named(distributions(columns(5, **given), {"driving": 1.0}), "mix")
    assert found.target == tuple(float(kind == "driving") for kind in VIDEO_TYPES)


def test_clips_put_aside_are_in_no_distribution():
    found = distributions(columns(2, duration_s=[3.0, 3.0], quarantine=[None, "no frame"]))
    assert sum(named(found, "duration_s").kept) == 1
    assert distributions(columns(2, duration_s=[3.0, 3.0], quarantine=["bad", "bad"], repeats=[0, 0])) == []


def test_no_clips_and_no_kept_ones():
    assert distributions(columns(0)) == []
    found = distributions(columns(2, duration_s=[3.0, 4.0], keep=[False, False], repeats=[0, 0]))
    assert [(one.name, sum(one.kept), sum(one.dropped)) for one in found] == [("duration_s", 0, 2)]
