"""Clips too long for the machine are refused before they fill it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, memory
from cosmos_tokenizer.video import read_video


def test_a_clip_longer_than_its_room_is_refused_at_the_frame_where_it_ends(
    film: Callable[..., Path], gradients: Callable[..., np.ndarray]
) -> None:
    path = film(gradients(frames=9))
    one = 32 * 48 * 3
    assert len(read_video(path, room=9 * one).frames) == 9
    with pytest.raises(InputError, match="clip.mp4: is too long for the free memory, which ends near frame 5 of 48x32"):
        read_video(path, room=5 * one - 1)


def test_room_is_the_free_memory_over_what_a_pixel_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:   1440 kB\nSwapFree: 0 kB\n")
    monkeypatch.setattr(memory, "_MEMORY_FILE", tmp_path / "meminfo")
    model = CausalTokenizer(PRESETS["toy"])
    # 24 bytes of clip, and ten tensors of 192 / 64 float32 values, are 144 bytes a pixel.
    assert memory.room_for_frames(model) == 1440 * 1024 * 3 // 144
    monkeypatch.setattr(memory, "_MEMORY_FILE", tmp_path / "absent")
    assert memory.room_for_frames(model) is None
