import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosmos_posttrain import clip_pool, film
from cosmos_tokenizer import InputError, progress

PHOTOGRAPHS_ONLY = {"photographs": 1.0}


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "footage/photographs").mkdir(parents=True)
    for name in ("a", "b", "bikes-still", "c", "d", "e"):
        noise = rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"footage/photographs/{name}.png")
    return tmp_path / "footage"


@pytest.fixture(autouse=True)
def small_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_pool, "SIZE", 24)


def build(footage: Path, out: Path, seed: int = 3) -> Path:
    return clip_pool.build(footage, out, clips=11, frames=5, development=4, seed=seed, mix=PHOTOGRAPHS_ONLY)


def test_a_pool_has_the_asked_clips_and_a_source_for_each(footage: Path, tmp_path: Path) -> None:
    pool = build(footage, tmp_path / "pool")
    manifest = json.loads((pool / "manifest.json").read_text())
    for split, count in (("training", 11), ("development", 4)):
        clips = clip_pool.open_split(pool, split)
        assert clips.shape == (count, 5, 24, 24, 3)
        assert len(manifest[split]) == count
        assert all(clip.std() > 5 for clip in clips)


def test_clips_have_at_least_a_frame(footage: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frames is 0"):
        clip_pool.build(footage, tmp_path / "pool", clips=1, frames=0, seed=0, mix=PHOTOGRAPHS_ONLY)


def test_splits_share_no_photograph_and_held_out_names_appear_in_neither(footage: Path, tmp_path: Path) -> None:
    manifest = json.loads((build(footage, tmp_path / "pool") / "manifest.json").read_text())
    used = {
        split: {name for source in manifest[split] for name in source.removeprefix("photographs: ").split(" + ")}
        for split in ("training", "development")
    }
    assert used["development"] == {"d.png"}
    assert used["training"] == {"a.png", "b.png", "c.png", "e.png"}


def test_a_seed_names_one_pool(footage: Path, tmp_path: Path) -> None:
    first, again, other = (build(footage, tmp_path / name, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert (first / "training.npy").read_bytes() == (again / "training.npy").read_bytes()
    assert (first / "training.npy").read_bytes() != (other / "training.npy").read_bytes()


def test_clips_of_all_kinds_are_shuffled(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(footage, wanted, length, rng, holdout, progress):  # noqa: ANN001, ANN202
        for split, count in wanted.items():
            for _ in range(count):
                yield clip_pool.Clip(split=split, source="plain", frames=np.full((5, 24, 24, 3), 9, np.uint8))

    monkeypatch.setitem(clip_pool.READERS, "film", plain)
    mix = {"film": 0.5, "photographs": 0.5}
    pool = clip_pool.build(footage, tmp_path / "pool", clips=20, frames=5, development=2, seed=1, mix=mix)
    sources = json.loads((pool / "manifest.json").read_text())["training"]
    assert sources.count("plain") == 10
    assert sources != sorted(sources, key=lambda source: source == "plain")
    assert sources != sorted(sources, key=lambda source: source != "plain")
    plain_clips = [bool((clip == 9).all()) for clip in clip_pool.open_split(pool)]
    assert plain_clips == [source == "plain" for source in sources]


def test_shares_add_up_for_any_count() -> None:
    for count in (0, 1, 7, 100, 6001):
        shares = clip_pool.shares(count, clip_pool.MIX)
        assert sum(shares.values()) == count
    assert clip_pool.shares(6000, clip_pool.MIX) == {"film": 2700, "photographs": 2400, "scenes": 900}


def test_a_missing_film_leaves_nothing_behind(footage: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="big_buck_bunny.mp4"):
        clip_pool.build(
            footage, tmp_path / "pool", clips=4, development=2, seed=0, mix={"film": 0.5, "photographs": 0.5}
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["footage"]


def test_an_existing_folder_is_not_overwritten(footage: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        build(footage, footage)


@pytest.mark.parametrize("mix", [{"films": 1.0}, {"film": 0.0}])
def test_a_mix_without_a_known_kind_is_refused(mix: dict[str, float]) -> None:
    with pytest.raises(InputError, match="mix"):
        clip_pool.shares(5, mix)


def test_development_shots_are_not_training_shots() -> None:
    shots = [film.Shot(start=20 * i, end=20 * i + 20) for i in range(30)]
    training, development = (clip_pool.part(shots, split) for split in ("training", "development"))
    assert sorted(training + development, key=lambda shot: shot.start) == shots
    assert len(development) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "training.npy is damaged or no array of clips"),
        (b"just words", "training.npy is damaged or no array of clips"),
        (np.zeros((2, 5, 24, 24, 3), np.uint8), "2 clips of 5 frames of 24x24.*9 frames of 16x16 is needed"),
        (np.zeros((2, 9, 24, 8, 3), np.uint8), "2 clips of 9 frames of 24x8.*9 frames of 16x16 is needed"),
        (np.zeros((2, 9, 24, 24, 3), np.float32), "holds float32"),
        (np.zeros((9, 24, 24, 3), np.uint8), r"holds uint8 \(9, 24, 24, 3\)"),
        (np.zeros((2, 9, 24, 24, 4), np.uint8), r"holds uint8 \(2, 9, 24, 24, 4\)"),
    ],
)
def test_a_file_that_holds_no_such_clips_is_refused(content: bytes | np.ndarray, words: str, tmp_path: Path) -> None:
    if isinstance(content, bytes):
        (tmp_path / "training.npy").write_bytes(content)
    else:
        np.save(tmp_path / "training.npy", content)
    with pytest.raises(InputError, match=words):
        clip_pool.open_split(tmp_path, frames=9, side=16)


def test_a_pool_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "training.npy", np.ones((2, 9, 24, 24, 3), np.uint8))
    whole = (tmp_path / "training.npy").read_bytes()
    (tmp_path / "training.npy").write_bytes(whole[:-1])
    with pytest.raises(InputError, match="training.npy is damaged"):
        clip_pool.open_split(tmp_path)


def test_building_tells_how_far_it_is(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PERIOD", 0.0)
    build(footage, tmp_path / "pool")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "photographs: 0% of all"
    assert "photographs: 7% of all" in lines[4]  # four training photographs opened, one clip of fifteen made
    assert lines[-1].startswith("photographs: 100% of all")
