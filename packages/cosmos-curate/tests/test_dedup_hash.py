"""Perceptual hashes: what they survive and what not, flat clips, and pairs within a few bits against all pairs."""

import cv2
import numpy as np
import pytest

from cosmos_curate.dedup.exact import first_equal, first_of, hash_pairs, parts
from cosmos_curate.dedup.fingerprint import BLANK, SAMPLING, fingerprint_stage, frame_hash, words
from cosmos_curate.media.frames import Frames
from cosmos_curate.media.reading import read_samplings
from cosmos_curate.stage import Item, check_stage


def moving(picture, *, count: int = 12, height: int = 144, width: int = 256, seed: int = 0) -> np.ndarray:
    wide = picture(height, width + 8 * count, seed)
    return np.stack([wide[:, 8 * index : 8 * index + width] for index in range(count)])


def phash(path) -> str:
    frames = read_samplings(path, [SAMPLING])
    return str(fingerprint_stage().open()(Item(id="x", path=str(path)), frames)["phash"])


def distance(one: str, other: str) -> int:
    return max(int(a ^ b).bit_count() for a, b in zip(words(one), words(other), strict=True))


def test_stage_keeps_its_word(video, picture, tmp_path):
    path = video(tmp_path / "a.mp4", moving(picture))
    check_stage(fingerprint_stage(), Item(id="a", path=str(path)), read_samplings(path, [SAMPLING]))


def test_reencoded_and_rescaled_clips_are_near_and_others_are_not(video, picture, tmp_path):
    frames = moving(picture)
    original = phash(video(tmp_path / "a.mp4", frames))
    small = np.stack([cv2.resize(frame, (160, 90), interpolation=cv2.INTER_AREA) for frame in frames])
    assert len(original) == 64
    assert distance(original, phash(video(tmp_path / "b.mp4", frames, crf=31))) <= 4
    assert distance(original, phash(video(tmp_path / "c.mp4", small))) <= 4
    assert distance(original, phash(video(tmp_path / "d.mp4", frames[:, :, ::-1]))) > 12
    assert distance(original, phash(video(tmp_path / "e.mp4", moving(picture, seed=1)))) > 12


def test_a_clip_of_one_frame_has_one_hash(video, picture, tmp_path):
    assert len(phash(video(tmp_path / "a.mp4", moving(picture, count=1)))) == 16


@pytest.mark.parametrize("level", [0, 16, 255])
def test_flat_frames_say_nothing(level: int):
    assert frame_hash(np.full((64, 114), level, np.uint8)) == BLANK
    noisy = np.random.default_rng(0).integers(level, level + 1, (64, 114), np.uint8, endpoint=level < 255)
    assert frame_hash(noisy) == BLANK


def test_frames_with_contrast_have_half_of_the_bits_at_any_size(picture):
    for height, width in [(16, 16), (64, 64), (17, 300), (300, 17)]:
        word = int(frame_hash(picture(height, width)[:, :, 0]), 16)
        assert word.bit_count() == 32


def test_dark_frames_are_told_apart(picture):
    one, other = (frame_hash((picture(64, 114, seed)[:, :, 0] * 0.15).astype(np.uint8)) for seed in (0, 1))
    assert BLANK not in (one, other)
    assert distance(one, other) > 12


def hexes(hashes: np.ndarray) -> list[str]:
    return ["".join(f"{int(word):016x}" for word in clip) for clip in hashes]


def flipped(rng: np.random.Generator, hashes: np.ndarray, most: int) -> np.ndarray:
    out = hashes.copy()
    for clip in out:
        for index in range(len(clip)):
            for bit in rng.choice(64, rng.integers(0, most + 1), replace=False):
                clip[index] ^= np.uint64(1) << np.uint64(bit)
    return out


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_pairs_are_those_of_all_pairs(radius: int, frames: int):
    rng = np.random.default_rng(radius)
    base = rng.integers(1, 2**63, (40, frames), dtype=np.uint64)
    base[::7, 0] = 0 if frames > 1 else base[::7, 0]
    hashes = np.concatenate([base, flipped(rng, base, radius), flipped(rng, base, radius + 2)])
    hashes[40:][np.tile(base, (2, 1)) == 0] = 0
    duration_s = np.tile(rng.uniform(2, 60, 40), 3) * np.repeat([1, 1.015, 1.0], 40)
    order = rng.permutation(120)
    hashes, duration_s = hashes[order], duration_s[order]
    expected = [
        (i, j)
        for i in range(120)
        for j in range(i + 1, 120)
        if max(int(a ^ b).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True)) <= radius
        and abs(duration_s[i] - duration_s[j]) <= max(0.1, 0.02 * min(duration_s[i], duration_s[j]))
    ]
    assert len(expected) >= 40
    assert hash_pairs(hexes(hashes), duration_s, radius).tolist() == [list(pair) for pair in expected]


def test_clips_pair_only_with_equal_numbers_of_frames_durations_that_agree_and_contrast():
    word = "00ff" * 4
    hashes = [word, word + word, word, None, "", BLANK, BLANK, BLANK + BLANK, word]
    duration_s = np.array([5, 5, 5.05, 5, 5, 5, 5, 5, 6.0])
    assert hash_pairs(hashes, duration_s, 4).tolist() == [[0, 2]]


def test_parts_of_different_words_differ():
    words_ = np.random.default_rng(0).integers(0, 2**63, 1000, dtype=np.uint64)
    for count in range(1, 9):
        held = parts(words_, count)
        assert len(held) == count
        assert all((part < 2**32).all() for part in held)
        assert len({tuple(int(part[row]) for part in held) for row in range(1000)}) == 1000


def test_first_equal():
    assert first_equal(["a", None, "b", "a", None, "b"]).tolist() == [0, 1, 2, 0, 4, 2]
    assert first_of(np.array([7, 3, 7, 3, 1])).tolist() == [0, 1, 0, 1, 4]


def test_frames_of_a_clip_are_hashed_in_order(picture):
    pixels = np.stack([picture(64, 114, seed)[:, :, :1] for seed in range(4)])
    frames = {SAMPLING: Frames(pixels=pixels, times_s=np.arange(4.0))}
    written = fingerprint_stage().open()(Item(id="a", path="a"), frames)["phash"]
    assert written == "".join(frame_hash(frame[:, :, 0]) for frame in pixels)


def test_many_clips_that_fade_from_black_are_told_apart_by_what_follows():
    rng = np.random.default_rng(9)
    hashes = rng.integers(1, 2**63, (300, 4), dtype=np.uint64)
    hashes[:, :2] = 0
    hashes[150:] = hashes[:150]
    found = hash_pairs(hexes(hashes), np.full(300, 5.0), 2)
    assert found.tolist() == [[row, row + 150] for row in range(150)]
