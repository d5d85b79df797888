"""Declared sizes of containers against the size of the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosmos_tokenizer.truncation import missing_bytes

CONTAINERS = {
    "plain.mp4": {},
    "front.mp4": {"movflags": "+faststart"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "front.mov": {"movflags": "+faststart"},
    "clip.mkv": {},
    "clip.avi": {},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_whole_file_lacks_nothing_and_a_cut_one_what_was_cut(
    name: str, gradients: Callable[..., np.ndarray], film: Callable[..., Path]
) -> None:
    path = film(gradients(12), name, container=CONTAINERS[name], codec="mpeg4" if name.endswith("avi") else "libx264")
    whole = path.read_bytes()
    assert missing_bytes(path) == 0
    for kept in (0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * kept)])
        assert missing_bytes(path) > 0, kept


def test_bytes_after_the_end_are_no_fault(gradients: Callable[..., np.ndarray], film: Callable[..., Path]) -> None:
    path = film(gradients(3))
    path.write_bytes(path.read_bytes() + bytes(100))
    assert missing_bytes(path) == 0


def test_a_stream_of_unknown_length_is_taken_as_whole(
    gradients: Callable[..., np.ndarray], film: Callable[..., Path]
) -> None:
    path = film(gradients(6), "live.mkv", container={"live": "1"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert missing_bytes(path) == 0


@pytest.mark.parametrize("length", range(0, 64, 7))
def test_any_short_file_is_measured_without_a_crash(length: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    for start in (b"", b"\x1a\x45\xdf\xa3", b"\x00\x00\x00\x18ftyp", b"RIFF", b"\x00\x00\x00\x01mdat"):
        (tmp_path / "x").write_bytes(start + noise)
        assert missing_bytes(tmp_path / "x") >= 0
