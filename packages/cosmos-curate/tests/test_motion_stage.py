"""The motion stage on encoded clips, its columns and its saving on still ones."""

import numpy as np
import pytest

from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames
from cosmos_curate.media.reading import read_samplings
from cosmos_curate.motion import stage as stage_module
from cosmos_curate.motion.stage import MotionConfig, is_still, motion_stage
from cosmos_curate.schema import CAMERA_MOTIONS, COLUMNS
from cosmos_curate.stage import Item, check_stage

CONFIG = MotionConfig()


def panned(picture, step, count=24, size=(144, 256), noise=0.0):
    big = picture(400, 900, seed=2)
    frames = np.stack([big[50 : 50 + size[0], 500 - step * i : 500 - step * i + size[1]] for i in range(count)])
    grain = np.random.default_rng(0).normal(size=frames.shape) * noise
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def columns(path, config=CONFIG):
    frames = read_samplings(path, [config.sampling])
    return motion_stage(config).open()(Item(id="clip", path=str(path)), frames)


def test_the_stage_keeps_its_word(video, picture, tmp_path):
    for count in (1, 2, 24):
        path = video(tmp_path / f"{count}.mp4", panned(picture, 3, count))
        check_stage(motion_stage(CONFIG), Item(id="clip", path=str(path)), read_samplings(path, [CONFIG.sampling]))


def test_columns_are_those_of_the_schema(video, picture, tmp_path):
    found = columns(video(tmp_path / "clip.mp4", panned(picture, 3)))
    assert set(found) < {column.name for column in COLUMNS}
    assert found["camera_motion"] == found["camera_motions"][0] == "pan left"
    assert set(found["camera_motions"]) <= set(CAMERA_MOTIONS)
    speed = 3 * 24 / np.hypot(144, 256)
    assert found["camera_speed"] == pytest.approx(speed, rel=0.05)
    assert found["motion_vectors"] == pytest.approx(speed, rel=0.25)
    assert found["shake"] < 0.01
    assert found["motion"] < 0.02


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_still_clip_has_the_same_tag_with_and_without_the_saving(video, picture, tmp_path, monkeypatch, noise):
    path = video(tmp_path / "clip.mp4", panned(picture, 0, noise=noise), crf=28)
    whole = columns(path, MotionConfig(prefilter=False))
    assert whole["camera_motions"] == ["static"]
    assert max(whole["motion"], whole["camera_speed"], whole["shake"]) < CONFIG.shaky
    if noise == 0:
        monkeypatch.setattr(stage_module, "follow", lambda *_: pytest.fail("the flow was not spared"))
    assert columns(path)["camera_motions"] == ["static"]


def test_vectors_alone_do_not_make_a_clip_still(video, picture, tmp_path, monkeypatch):
    path = video(tmp_path / "clip.mp4", panned(picture, 3))
    monkeypatch.setattr(stage_module, "measure_vectors", lambda _: 0.0)
    assert columns(path)["camera_motion"] == "pan left"


def test_frames_alone_do_not_make_a_clip_still(video, picture, tmp_path, monkeypatch):
    path = video(tmp_path / "clip.mp4", panned(picture, 0))
    calls = []
    real = stage_module.follow
    monkeypatch.setattr(stage_module, "follow", lambda *given: calls.append(1) or real(*given))
    for vectors in (None, 0.1, 0.0):
        monkeypatch.setattr(stage_module, "measure_vectors", lambda _, vectors=vectors: vectors)
        assert columns(path)["camera_motion"] == "static"
    assert len(calls) == 2


def test_a_creeping_pan_and_a_small_thing_are_not_still(picture):
    big = picture(400, 900, seed=2)[..., :1].astype(float)
    creeping = np.stack([big[50:194, 100:356] * (1 - i / 16) + big[50:194, 101:357] * i / 16 for i in range(17)])
    assert np.abs(np.diff(creeping, axis=0)).mean() < 0.5
    assert not is_still(creeping.round().astype(np.uint8), CONFIG.still_levels)
    small = np.repeat(big[None, 50:194, 100:356], 9, 0).astype(np.uint8)
    assert is_still(small, CONFIG.still_levels)
    small[4, 70:76, 90:96] = 255 - small[4, 70:76, 90:96]
    assert not is_still(small, CONFIG.still_levels)


def test_black_and_tiny_clips(video, tmp_path):
    black = columns(video(tmp_path / "black.mp4", np.zeros((12, 144, 256, 3), np.uint8)))
    assert black["camera_motions"] == ["static"]
    tiny = columns(video(tmp_path / "tiny.mp4", np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), np.uint8)))
    assert set(tiny["camera_motions"]) <= set(CAMERA_MOTIONS)


def test_unevenly_spaced_frames(video, picture, tmp_path):
    frames = panned(picture, 0, 30)
    times = np.r_[0, np.cumsum(np.random.default_rng(1).uniform(0.02, 0.12, 29))]
    big = picture(400, 900, seed=2)
    for index, time in enumerate(times):
        left = 500 - round(60 * time)
        frames[index] = big[50:194, left : left + 256]
    found = columns(video(tmp_path / "clip.mp4", frames, times_s=times))
    assert found["camera_motions"] == ["pan left"]
    assert found["camera_speed"] == pytest.approx(60 / np.hypot(144, 256), rel=0.1)


def test_settings_are_in_the_key():
    one, other = motion_stage(CONFIG), motion_stage(MotionConfig(slow=0.01))
    assert one.key("clip") != other.key("clip")
    assert motion_stage(MotionConfig(rate=6.0)).samplings[0].rate == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", 0.0), ("short_side", 16), ("slow", -1.0), ("beside", 2.0), ("share", 1.5), ("still_levels", -1.0)],
)
def test_settings_are_checked(name, value):
    with pytest.raises(InputError, match=name):
        MotionConfig(**{name: value})


def test_no_number_is_no_setting():
    for name in ("rate", "slow", "share", "still_vectors"):
        with pytest.raises(InputError, match=name):
            MotionConfig(**{name: float("nan")})


def test_frames_without_detail(video, picture, tmp_path):
    path = video(tmp_path / "clip.mp4", panned(picture, 0))
    frames = {CONFIG.sampling: Frames(np.full((3, 40, 40, 1), 7, np.uint8), np.array([0, 0.1, 0.2]))}
    found = motion_stage(CONFIG).open()(Item(id="clip", path=str(path)), frames)
    assert found["camera_motions"] == ["static"]
