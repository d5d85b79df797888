"""Spans from shots: the guard band, equal parts, and times of a variable frame rate."""

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.shots.cutting import GRACE_S, CutConfig, cut
from cosmos_curate.shots.shot import Shot


def even(frames, rate=24.0, start=0.0):
    return start + np.arange(frames + 1) / rate


def test_guard_is_cut_off_both_ends_by_time():
    (span,) = cut([Shot(10, 130)], even(200), CutConfig())
    assert (span.first, span.end) == (22, 118)
    assert (span.start_s, span.end_s) == (22 / 24, 118 / 24)


def test_guard_counts_seconds_and_not_frames():
    times = np.concatenate([np.arange(10) * 0.2, 2 + np.arange(41) * 0.05])
    (span,) = cut([Shot(0, 50)], times, CutConfig())
    assert (span.first, span.end) == (3, 40)


def test_times_rounded_to_milliseconds_lose_no_frame():
    times = np.round(even(240), 3)
    (span,) = cut([Shot(0, 240)], times, CutConfig())
    assert (span.first, span.end) == (12, 228)


@pytest.mark.parametrize(("frames", "spans"), [(24, 0), (25, 0), (26, 1)])
def test_fewer_than_two_frames_are_no_span(frames, spans):
    assert len(cut([Shot(0, frames)], even(frames), CutConfig())) == spans


def test_shots_shorter_than_two_seconds_stay():
    (span,) = cut([Shot(0, 30)], even(30), CutConfig())
    assert span.end_s - span.start_s == pytest.approx(0.25)


def test_long_shot_becomes_equal_parts_that_touch():
    spans = cut([Shot(0, 24 * 151)], even(24 * 151), CutConfig())
    assert [s.end - s.first for s in spans] == [1200, 1200, 1200]
    assert [s.end for s in spans[:-1]] == [s.first for s in spans[1:]]
    assert (spans[0].first, spans[-1].end) == (12, 24 * 151 - 12)


def test_exactly_the_longest_is_one_part():
    assert len(cut([Shot(0, 24 * 61)], even(24 * 61), CutConfig())) == 1
    assert len(cut([Shot(0, 24 * 61 + 1)], even(24 * 61 + 1), CutConfig())) == 2


def test_snapping_to_frames_never_exceeds_the_longest():
    times = even(1000, rate=10.0)
    for longest in np.linspace(0.3, 20, 60):
        spans = cut([Shot(0, 1000)], times, CutConfig(guard_s=0.0, longest_s=float(longest)))
        assert max(s.end_s - s.start_s for s in spans) <= longest + GRACE_S


def test_frames_further_apart_than_the_longest_still_come_out():
    times = np.array([0.0, 100.0, 200.0, 300.0, 400.0, 400.5])
    spans = cut([Shot(0, 5)], times, CutConfig(guard_s=0.0))
    assert [(s.first, s.end) for s in spans] == [(0, 2), (2, 5)]


@pytest.mark.parametrize("seed", range(40))
def test_random_variable_rates(seed):
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(2, 800))
    steps = rng.choice([1 / 60, 1 / 24, 0.2, 1.1], frames, p=[0.5, 0.3, 0.15, 0.05]) * rng.uniform(0.5, 1.5, frames)
    times = float(rng.uniform(-3, 100)) + np.concatenate([[0], np.cumsum(steps)])
    edges = np.unique(rng.integers(0, frames + 1, 2 * int(rng.integers(1, 5))))
    shots = [Shot(int(a), int(b)) for a, b in zip(edges[:-1:2], edges[1::2], strict=False)]
    config = CutConfig(guard_s=float(rng.choice([0, 0.5])), longest_s=float(rng.choice([3.0, 10.0, 60.0])))
    spans = cut(shots, times, config)
    whole = cut(shots, times, CutConfig(guard_s=config.guard_s, longest_s=np.inf))
    assert all(one.end <= other.first for one, other in zip(spans[:-1], spans[1:], strict=True))
    for span in spans:
        assert any(shot.first <= span.first and span.end <= shot.end for shot in shots)
        assert span.end - span.first >= 2
        assert (span.start_s, span.end_s) == (times[span.first], times[span.end])
    for cropped in whole:
        parts = [s for s in spans if cropped.first <= s.first and s.end <= cropped.end]
        assert [parts[0].first, *(s.end for s in parts)] == [*(s.first for s in parts), cropped.end]
        widest = float(np.diff(times[cropped.first : cropped.end + 1]).max())
        share = (cropped.end_s - cropped.start_s) / len(parts)
        if all(p.end - p.first > 2 for p in parts):
            assert all(abs(p.end_s - p.start_s - share) <= widest + 1e-9 for p in parts)
    for shot in shots:
        inner = [i for i in range(shot.first, shot.end) if times[i] >= times[shot.first] + config.guard_s - GRACE_S]
        inner = [i for i in inner if times[i + 1] <= times[shot.end] - config.guard_s + GRACE_S]
        covered = {i for s in spans if shot.first <= s.first < shot.end for i in range(s.first, s.end)}
        assert len(inner) < 2 or set(inner) == covered


@pytest.mark.parametrize(
    "wrong", [{"guard_s": -1.0}, {"guard_s": float("nan")}, {"longest_s": 0.0}, {"longest_s": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        CutConfig(**wrong)
