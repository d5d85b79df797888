"""Windows of 100 frames over a stream, and shots from probabilities."""

import numpy as np
import pytest

from cosmos_curate.shots.shot import Shot
from cosmos_curate.shots.windows import probabilities, shots_between


def frames(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 27, 48, 3), dtype=np.uint8)


def mean(window):
    return window.mean((1, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 24, 25, 26, 49, 50, 51, 74, 75, 76, 99, 100, 101, 150, 233])
def test_each_frame_is_answered_for_itself(count):
    x = frames(count)
    assert np.array_equal(probabilities(iter(x), mean), mean(x))


@pytest.mark.parametrize("count", [1, 30, 75, 100, 126])
def test_windows_are_padded_with_the_first_and_last_frame(count):
    x, seen = frames(count), []

    def run(window):
        seen.append(window.copy())
        return mean(window)

    probabilities(iter(x), run)
    assert len(seen) == -(-count // 50)
    for index, window in enumerate(seen):
        wanted = np.clip(np.arange(50 * index - 25, 50 * index + 75), 0, count - 1)
        assert np.array_equal(window, x[wanted])


def test_no_frames_are_no_probabilities():
    assert probabilities(iter(()), mean).shape == (0,)


def test_frames_above_the_threshold_belong_to_no_shot():
    p = np.array([0, 0.1, 0.9, 0.4, 0.2, 0.41, 0.8, 0.3], np.float32)
    assert shots_between(p, float(np.float32(0.4))) == [Shot(0, 2), Shot(3, 5), Shot(7, 8)]


def test_transitions_at_the_ends_are_left_out():
    assert shots_between(np.array([1, 0, 0, 1], np.float32), 0.4) == [Shot(1, 3)]


def test_video_without_a_still_frame_is_one_shot():
    assert shots_between(np.ones(7, np.float32), 0.4) == [Shot(0, 7)]
    assert shots_between(np.zeros(7, np.float32), 0.4) == [Shot(0, 7)]
    assert shots_between(np.empty(0, np.float32), 0.4) == []


@pytest.mark.parametrize("seed", range(30))
def test_shots_are_those_of_the_published_rule(seed):
    rng = np.random.default_rng(seed)
    p = (rng.random(int(rng.integers(1, 60))) ** rng.uniform(0.3, 3)).astype(np.float32)
    scenes, before, start, now = [], 0, 0, 0
    for i, now in enumerate((p > 0.4).tolist()):
        if before and not now:
            start = i
        if not before and now and i:
            scenes.append(Shot(start, i))
        before = now
    if not now:
        scenes.append(Shot(start, len(p)))
    assert shots_between(p, 0.4) == (scenes or [Shot(0, len(p))])
