"""Frames to the model's range and back, and one door for pictures and videos."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_tokenizer.media import read_media, to_clip, to_frames, write_media
from cosmos_tokenizer.video import Video


def test_every_level_survives_the_model_range_in_its_place() -> None:
    frames = np.random.default_rng(0).permutation(np.arange(6 * 16 * 8 * 3) % 256).astype(np.uint8).reshape(6, 16, 8, 3)
    clip = to_clip(frames)
    assert clip.shape == (1, 3, 6, 16, 8)
    assert (float(clip.min()), float(clip.max())) == (-1.0, 1.0)
    assert clip[0, 2, 4, 7, 3].item() == pytest.approx(int(frames[4, 7, 3, 2]) / 127.5 - 1, abs=1e-6)
    assert np.array_equal(to_frames(clip), frames)


def test_what_lies_outside_the_range_is_clamped_and_the_rest_rounded() -> None:
    clip = torch.tensor([-3.0, -1.0, 0.004, 1.0, 7.0]).bfloat16().view(1, 1, 1, 1, 5).expand(1, 3, 1, 1, 5)
    assert to_frames(clip)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_stills_and_videos_go_through_one_door(gradients: Callable[..., np.ndarray], tmp_path: Path) -> None:
    still = Video(frames=gradients(1), rate=None)
    write_media(tmp_path / "a.png", still)
    read = read_media(tmp_path / "a.png")
    assert read.rate is None
    assert np.array_equal(read.frames, still.frames)
    write_media(tmp_path / "a.mp4", Video(frames=gradients(3), rate=Fraction(7)))
    assert read_media(tmp_path / "a.mp4").rate == 7
