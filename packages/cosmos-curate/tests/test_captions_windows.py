"""Windows cover a clip once each, and their pictures are theirs."""

import numpy as np
import pytest

from cosmos_curate.captions.windows import frames_of, spread, windows


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, [(0, 1)]),
        (127, [(0, 127)]),
        (256, [(0, 256)]),
        (257, [(0, 257)]),
        (383, [(0, 383)]),
        (384, [(0, 256), (256, 384)]),
        (512, [(0, 256), (256, 512)]),
        (639, [(0, 256), (256, 639)]),
        (640, [(0, 256), (256, 512), (512, 640)]),
    ],
)
def test_a_remainder_of_half_a_window_is_one_of_its_own(frames: int, expected: list) -> None:
    assert windows(frames) == expected


def test_windows_cover_each_frame_once_and_none_is_short() -> None:
    for size in (1, 2, 3, 7, 256):
        for frames in [*range(1, 60), 255, 256, 1000, 1440]:
            cut = windows(frames, size)
            assert [k for first, end in cut for k in range(first, end)] == list(range(frames))
            lengths = [end - first for first, end in cut]
            assert all(length == size for length in lengths[:-1])
            assert len(cut) == 1 or lengths[-1] >= size / 2
            assert lengths[-1] < 1.5 * size


def test_without_a_size_the_clip_is_one_window() -> None:
    assert windows(1441, None) == [(0, 1441)]


def test_spread_is_even_centred_and_rising() -> None:
    for count in range(1, 70):
        for most in range(1, 12):
            chosen = spread(count, most)
            assert len(chosen) == min(count, most)
            assert (np.diff(chosen) > 0).all()
            assert chosen[0] >= 0
            assert chosen[-1] < count
            assert np.abs(chosen + chosen[::-1] - (count - 1)).max() <= 1
            if len(chosen) > 1:
                assert np.ptp(np.diff(chosen)) <= 1


def test_each_sampled_frame_is_of_one_window() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        frames, size = int(rng.integers(1, 900)), int(rng.integers(2, 300))
        times = np.cumsum(rng.uniform(0.01, 0.2, frames))
        times -= times[0]
        sampled = np.sort(rng.choice(frames, min(frames, int(rng.integers(1, 60))), replace=False))
        jitter = rng.uniform(-1e-4, 1e-4, len(sampled))
        shown = []
        for window in windows(frames, size):
            chosen = frames_of(window, times, times[sampled] + jitter, 10**9)
            inside = [k for k, place in enumerate(sampled) if window[0] <= place < window[1]]
            assert len(chosen) >= 1
            if inside:
                assert chosen.tolist() == inside
                shown += inside
        assert shown == list(range(len(sampled)))


def test_a_window_between_sampled_frames_takes_the_nearest() -> None:
    times = np.arange(1000) / 1000
    assert frames_of((400, 528), times, np.array([0.0, 0.3, 0.6, 0.9]), 4).tolist() == [2]
    assert frames_of((0, 1), np.zeros(1), np.zeros(1), 4).tolist() == [0]


def test_many_pictures_are_thinned_evenly() -> None:
    times = np.arange(240) / 24
    assert frames_of((120, 240), times, times, 4).tolist() == [135, 165, 195, 225]
