"""Clips to validate on are of lengths and sizes that training has; what it leaves out is left out, in one line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_posttrain.data import Description, StreamConfig
from cosmos_posttrain.recipes.validation import validation_clips


class Noise:
    """Clips of random colours, of given frames, height and width; those of one frame are pictures."""

    def __init__(self, sizes: Sequence[tuple[int, int, int]]) -> None:
        rng = np.random.default_rng(0)
        self.clips = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]

    def __len__(self) -> int:
        return len(self.clips)

    def describe(self, index: int) -> Description:
        frames, height, width, _ = self.clips[index].shape
        rate = 24.0 if frames > 1 else None
        return Description(key=f"clip-{index}", frames=frames, height=height, width=width, rate=rate, text=None)

    def read(self, index: int, first: int, count: int, step: int) -> np.ndarray:
        return self.clips[index][first : first + (count - 1) * step + 1 : step]


def settings(**changes: Any) -> StreamConfig:
    base: dict[str, Any] = {"batch": 1, "frames": (9, 17), "sides": (64,), "crop": 48, "unscaled": 1.0}
    return StreamConfig(**(base | changes))


def found(source: Noise, count: int = 9, **changes: Any) -> tuple[dict[int, np.ndarray], list[str]]:
    said: list[str] = []
    return dict(validation_clips(source, settings(**changes), count, said.append)), said


def test_what_is_too_short_for_training_is_left_out_in_one_line() -> None:
    clips, said = found(Noise([(8, 50, 50), (9, 50, 50), (5, 50, 50), (16, 50, 50), (17, 50, 50), (40, 50, 50)]))
    assert {index: len(clip) for index, clip in clips.items()} == {1: 9, 3: 9, 4: 17, 5: 17}
    assert said == ["not validated on: 2 of fewer than 9 frames; the longest of them, clip-0, has 8"]
    assert list(found(Noise([(8, 50, 50), (9, 50, 50), (5, 50, 50), (17, 50, 50)]), count=1)[0]) == [1]


@pytest.mark.parametrize(("images", "kept"), [(0.0, [1]), (0.3, [0, 1]), (None, [0, 1])])
def test_pictures_are_validated_on_where_they_are_trained_on(images: float | None, kept: list[int]) -> None:
    clips, said = found(Noise([(1, 50, 50), (9, 50, 50)]), images=images)
    assert list(clips) == kept
    assert len(said) == 2 - len(kept)
    assert [len(clip) for clip in found(Noise([(1, 50, 50), (9, 50, 50)]), frames=(1,))[0].values()] == [1, 1]


def test_large_frames_are_cut_in_the_middle_and_small_ones_scaled_up_before() -> None:
    source = Noise([(9, 71, 90), (9, 31, 57), (9, 100, 41)])
    clips, _ = found(source)
    np.testing.assert_array_equal(clips[0], source.clips[0][:, 11:59, 21:69])
    for index in (1, 2):
        frames, (height, width) = source.clips[index], source.clips[index].shape[1:3]
        scale = 64 / min(height, width)
        top, left = ((int(size * scale + 1e-6) - 48) // 2 / scale for size in (height, width))
        box = (left, top, left + 48 / scale, top + 48 / scale)
        resized = Image.fromarray(frames[8]).resize((48, 48), Image.Resampling.LANCZOS, box=box)
        assert clips[index].shape == (9, 48, 48, 3)
        np.testing.assert_array_equal(clips[index][8], np.asarray(resized))


def test_where_training_always_scales_validation_does() -> None:
    source = Noise([(9, 128, 128)])
    half = Image.fromarray(source.clips[0][0]).resize((48, 48), Image.Resampling.LANCZOS, box=(16, 16, 112, 112))
    np.testing.assert_array_equal(found(source, unscaled=0.0)[0][0][0], np.asarray(half))


def test_whole_frames_have_the_shapes_of_batches() -> None:
    clips, _ = found(Noise([(9, 70, 130), (9, 131, 70), (9, 67, 67)]), crop=None, sides=(32, 64))
    assert [clip.shape[1:3] for clip in clips.values()] == [(64, 112), (112, 64), (64, 64)]
