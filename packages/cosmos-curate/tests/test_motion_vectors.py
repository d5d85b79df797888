"""Motion vectors of encoded clips."""

import numpy as np
import pytest

from cosmos_curate.errors import Unusable
from cosmos_curate.motion.vectors import measure_vectors


def panned(picture, step, count=16, size=(144, 256)):
    big = picture(400, 800, seed=1)
    return np.stack([big[50 : 50 + size[0], 400 - step * i : 400 - step * i + size[1]] for i in range(count)])


def test_a_still_picture_has_none_and_a_pan_its_speed(video, picture, tmp_path):
    still = measure_vectors(video(tmp_path / "still.mp4", panned(picture, 0), rate=16))
    assert still is not None
    assert still < 0.001
    moving = measure_vectors(video(tmp_path / "moving.mp4", panned(picture, 4), rate=16))
    # 4 pixels a frame, 16 frames a second
    assert moving == pytest.approx(4 * 16 / np.hypot(144, 256), rel=0.2)


def test_only_the_first_second_behind_a_key_frame_is_read(video, picture, tmp_path):
    frames = panned(picture, 4, 64)
    frames[18:] = frames[17]
    whole = measure_vectors(video(tmp_path / "clip.mp4", frames, rate=16))
    first = measure_vectors(video(tmp_path / "first.mp4", frames[:17], rate=16))
    assert whole == pytest.approx(first, rel=0.2)


def test_later_key_frames_count(video, picture, tmp_path):
    # Another picture makes x264 begin anew; behind it everything moves.
    still, moving = panned(picture, 0, 40), 255 - panned(picture, 4, 16)
    measured = measure_vectors(video(tmp_path / "clip.mp4", np.concatenate([still, moving]), rate=16))
    assert measured > 0.03


def test_uneven_times(video, picture, tmp_path):
    frames = panned(picture, 4)
    slow = measure_vectors(video(tmp_path / "slow.mp4", frames, times_s=np.arange(16) / 8))
    fast = measure_vectors(video(tmp_path / "fast.mp4", frames, times_s=np.arange(16) / 24))
    assert fast == pytest.approx(3 * slow, rel=0.2)


def test_none_without_vectors(video, picture, tmp_path):
    assert measure_vectors(video(tmp_path / "one.mp4", panned(picture, 0, 1))) is None
    assert measure_vectors(video(tmp_path / "vp9.mp4", panned(picture, 4, 4), codec="libvpx-vp9")) is None


def test_no_video_is_unusable(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(Unusable, match="motion vectors"):
        measure_vectors(tmp_path / "text.mp4")
