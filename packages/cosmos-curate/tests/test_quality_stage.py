"""The quality stage: order under distortion at rising strength, edge cases, and the conformance check."""

import itertools
import json
import math

import av
import cv2
import numpy as np
import pytest

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.quality.score import technical_quality
from cosmos_curate.quality.stage import QualityConfig, quality_stage
from cosmos_curate.stage import Item, check_stage

ITEM = Item(id="a", path="a.mp4")
CONFIG = QualityConfig()


def clip(pixels):
    return {CONFIG.sampling: Frames(pixels=pixels, times_s=np.arange(len(pixels), dtype=np.float64))}


@pytest.fixture(scope="module")
def scene():
    """Three frames with edges, smooth shading and texture, as photographs have them."""
    rng = np.random.default_rng(3)
    frames = np.empty((3, 240, 320, 3), np.uint8)
    large = np.zeros((960, 1280, 3), np.float32)
    large += np.linspace(40, 160, 1280, dtype=np.float32)[None, :, None]
    for _ in range(60):
        centre = (int(rng.integers(0, 1280)), int(rng.integers(0, 960)))
        cv2.circle(large, centre, int(rng.integers(20, 160)), rng.uniform(0, 230, 3).tolist(), -1)
    grain = rng.normal(size=(240, 320, 1)).astype(np.float32)
    for index in range(3):
        moved = np.roll(large, 12 * index, 1)
        small = cv2.resize(moved, (320, 240), interpolation=cv2.INTER_AREA)
        frames[index] = np.clip(small + 3 * cv2.GaussianBlur(grain, (0, 0), 0.8)[..., None], 0, 255).round()
    return frames


def blurred(frames, deviation):
    return np.stack([cv2.GaussianBlur(frame, (0, 0), deviation) for frame in frames])


def upscaled(frames, divisor):
    def change(frame):
        small = cv2.resize(frame, None, fx=1 / divisor, fy=1 / divisor, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_CUBIC)

    return np.stack([change(frame) for frame in frames])


def noisy(frames, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, frames.shape)
    return np.clip(frames + noise, 0, 255).round().astype(np.uint8)


def compressed(frames, crf, video, folder):
    path = video(folder / f"{crf}.mp4", frames.repeat(2, 0), crf=crf)
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("distortion", "strengths"),
    [("blur", (1, 2, 4)), ("upscaling", (2, 4)), ("noise", (8, 25)), ("compression", (32, 40, 51))],
)
def test_quality_falls_with_the_strength_of_a_distortion(scene, video, tmp_path, distortion, strengths):
    change = {"blur": blurred, "upscaling": upscaled, "noise": noisy}.get(distortion)
    copies = [change(scene, s) if change else compressed(scene, s, video, tmp_path) for s in strengths]
    process = quality_stage().open()
    scores = [process(ITEM, clip(frames))["quality"] for frames in (scene, *copies)]
    assert all(one > other for one, other in itertools.pairwise(scores)), scores


@pytest.mark.parametrize("argument", range(4))
def test_quality_falls_with_each_distortion(argument):
    rng = np.random.default_rng(argument)
    for _ in range(100):
        one = [rng.uniform(0, 90), rng.uniform(0, 0.9), rng.uniform(0, 5), rng.uniform(0, 20)]
        other = list(one)
        other[argument] += rng.uniform(0.01, 0.1)
        assert 0 <= technical_quality(*other) < technical_quality(*one) <= 100
    assert technical_quality(-5.0, 0.0, 0.0, 0.0) == 100
    assert technical_quality(130.0, 0.5, 1.0, 1.0) == 0


@pytest.mark.parametrize(
    "shape", [(1, 120, 160, 3), (2, 16, 16, 3), (3, 90, 70, 1)], ids=["one frame", "16x16", "gray"]
)
def test_the_stage_keeps_its_word(picture, shape):
    count, height, width, channels = shape
    frames = clip(np.stack([picture(height, width, seed)[..., :channels] for seed in range(count)]))
    check_stage(quality_stage(), ITEM, frames)
    found = quality_stage().open()(ITEM, frames)
    assert all(math.isfinite(value) for value in found.values())
    assert 0 <= found["brightness"] <= 1
    assert (found["colorfulness"] == 0) == (channels == 1)


def test_black_frames_have_numbers_too():
    found = quality_stage().open()(ITEM, clip(np.zeros((2, 48, 64, 3), np.uint8)))
    assert all(math.isfinite(value) for value in found.values())
    assert found["brightness"] == 0
    assert found["blur"] == 1


def test_one_bad_frame_of_many_does_not_decide(scene):
    process = quality_stage().open()
    whole = process(ITEM, clip(scene))["quality"]
    spoilt = process(ITEM, clip(np.concatenate([scene, np.zeros_like(scene[:1]), scene])))["quality"]
    assert spoilt == pytest.approx(whole, abs=5)


def test_a_picture_too_small_is_unusable():
    with pytest.raises(Unusable, match="12x20"):
        quality_stage().open()(ITEM, clip(np.zeros((1, 20, 12, 3), np.uint8)))


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": float("nan")}, {"most": 0}, {"short_side": 8}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        QualityConfig(**wrong)


class Mean:
    """A scorer that is no model."""

    sampling = Sampling(most=2, short_side=32)
    settings = {"name": "mean"}
    weights = {"mean": "0" * 64}

    def open(self):
        return mean


def mean(frames):
    return float(frames.pixels.mean())


def test_a_scorer_takes_the_place_of_the_number_and_of_nothing_else(scene):
    config = QualityConfig(scorer=Mean())
    stage = quality_stage(config)
    small = Frames(pixels=np.full((2, 32, 32, 3), 7, np.uint8), times_s=np.array([0.0, 1.0]))
    frames = {**clip(scene), Mean.sampling: small}
    check_stage(stage, ITEM, frames)
    found, plain = stage.open()(ITEM, frames), quality_stage().open()(ITEM, clip(scene))
    assert found["quality"] == 7
    assert {**found, "quality": 0} == {**plain, "quality": 0}
    assert stage.samplings == (CONFIG.sampling, Mean.sampling)
    assert stage.key("a") != quality_stage().key("a")
    assert json.dumps(dict(stage.settings))
