"""Frames to the model's range and back, in pieces, and one door for pictures and videos."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import check_media_name, in_pieces, media_writer, open_media, to_clip, to_frames


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


@pytest.mark.parametrize(
    ("count", "length", "pieces"), [(1, 4, [1]), (4, 4, [1, 3]), (5, 4, [1, 4]), (10, 4, [1, 4, 4, 1])]
)
def test_pieces_begin_with_the_first_frame_and_read_no_further_than_asked(
    count: int, length: int, pieces: list[int], gradients: Callable[..., np.ndarray]
) -> None:
    frames, read = gradients(count, 16, 17), []
    found = in_pieces((read.append(1) or frame for frame in frames), length)
    first = next(found)
    assert (len(first), len(read)) == (1, 1)
    whole = [first, *found]
    assert [len(piece) for piece in whole] == pieces
    assert np.array_equal(np.concatenate(whole), frames)


def test_stills_and_videos_go_through_one_door(gradients: Callable[..., np.ndarray], tmp_path: Path) -> None:
    still = gradients(1, 20, 33)
    with media_writer(tmp_path / "a.png", size=(20, 33), rate=None) as add:
        add(still)
    with open_media(tmp_path / "a.png") as footage:
        assert (footage.size, footage.rate, footage.announced) == ((20, 33), None, 1)
        assert np.array_equal(list(footage.frames), still)
    with media_writer(tmp_path / "a.mp4", size=(20, 33), rate=Fraction(7)) as add:
        add(gradients(3, 20, 33))
    with open_media(tmp_path / "a.mp4") as footage:
        assert (footage.size, footage.rate, footage.announced) == ((20, 33), 7, 3)
        assert len(list(footage.frames)) == 3


def test_each_is_written_under_a_name_of_its_own_kind() -> None:
    check_media_name("a.png", still=True)
    check_media_name("a.mp4", still=False)
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        check_media_name("a.mp4", still=True)
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        check_media_name("a.png", still=False)
