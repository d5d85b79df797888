"""Later clips against frozen centroids: as all at once where order agrees, kept ones stay, the file survives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cosmos_curate.dedup.clips import DedupInput
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.find import find_duplicates
from cosmos_curate.dedup.incremental import DedupIndex, add, index_of, load_index
from cosmos_curate.errors import InputError

CPU = DedupConfig(device="cpu", eps=0.05, sample=200)
COLUMNS = [name for name in DedupInput.__dataclass_fields__ if name != "passes"]


def planted(count: int = 3000, copies: int = 400, dimensions: int = 32) -> DedupInput:
    """Clips in order of rank; copies of rows from everywhere are spread over the second half."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, dimensions))
    rows = centers[rng.integers(40, size=count)] + 0.7 * rng.normal(size=(count, dimensions))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = np.sort(rng.choice(np.arange(count // 2, count), copies, replace=False))
    for place in places:
        rows[place] = rows[rng.integers(place)] + 0.1 * rng.normal(size=dimensions) / np.sqrt(dimensions)
    words = rng.bytes(32 * count).hex()
    phash = [words[64 * row : 64 * row + 64] for row in range(count)]
    sha256 = [f"{row:064x}" for row in range(count)]
    sha256[2000], phash[2100] = sha256[5], phash[7]
    rows[2200], rows[50] = 0, np.nan
    return DedupInput(
        ids=[f"clip{row:05d}" for row in range(count)],
        embeddings=rows.astype(np.float16),
        sha256=[*sha256],
        phash=[*phash],
        duration_s=np.full(count, 5.0),
        pixels=np.arange(count, 0, -1),
        bytes=np.full(count, 1000),
        quality=np.full(count, np.nan, np.float32),
    )


def part(clips: DedupInput, rows: slice) -> DedupInput:
    return DedupInput(**{name: getattr(clips, name)[rows] for name in COLUMNS})


@pytest.mark.parametrize("below", [0, 100_000])
def test_parts_give_what_all_at_once_gives(below: int):
    clips, config = planted(), replace(CPU, exact_below=below, most_rows=1000)
    whole = find_duplicates(clips, config)
    first = part(clips, slice(0, 1800))
    found = find_duplicates(first, config)
    index, dup_of = index_of(first, found, config), list(found.dup_of)
    assert (len(index.centroids) > 0) == (below == 0)
    for start, end in [(1800, 1801), (1801, 1801), (1801, 2600), (2600, 3000)]:
        new = part(clips, slice(start, end))
        found, index = add(index, new, config)
        assert found.similarity.shape == (end - start,)
        dup_of += found.dup_of
    assert sum(one != other for one, other in zip(whole.dup_of, dup_of, strict=True)) <= (2 if below == 0 else 0)
    assert {"clip00005", "clip00007"} <= {dup_of[2000], dup_of[2100]}
    assert sum(one is not None for one in dup_of) > 400
    assert sorted(index.ids) == [name for name, of in zip(clips.ids, dup_of, strict=True) if of is None]


def test_order_of_new_clips_makes_no_difference_and_kept_ones_stay():
    clips = planted()
    first, new = part(clips, slice(0, 1500)), part(clips, slice(1500, 3000))
    index = index_of(first, find_duplicates(first, CPU), CPU)
    better = replace(new, pixels=new.pixels + 10**6)
    found, grown = add(index, better, CPU)
    assert set(index.ids) <= set(grown.ids)
    order = np.random.default_rng(1).permutation(1500)
    mixed = DedupInput(
        **{
            name: [value[row] for row in order] if isinstance(value := getattr(better, name), list) else value[order]
            for name in COLUMNS
        }
    )
    again, _ = add(index, mixed, CPU)
    assert again.dup_of == [found.dup_of[row] for row in order]


def equal(one: DedupIndex, other: DedupIndex) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "embeddings")
        for name in DedupIndex.__dataclass_fields__
    )


def test_index_survives_its_file(tmp_path: Path):
    clips = planted()
    config = replace(CPU, exact_below=0)
    index = index_of(clips, find_duplicates(clips, config), config)
    index.save(tmp_path / "a" / "dedup.npz")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["dedup.npz"]
    held = load_index(tmp_path / "a" / "dedup.npz")
    assert isinstance(held.embeddings, np.memmap)
    assert equal(held, load_index(index.to_bytes()))
    assert sorted(held.ids) == sorted(index.ids)
    assert (np.diff(held.first) >= 0).all()
    place = {name: row for row, name in enumerate(held.ids)}
    order = [place[name] for name in index.ids]
    assert np.array_equal(held.embeddings[order], index.embeddings, equal_nan=True)
    assert [held.phash[row] for row in order] == index.phash
    assert held.to_bytes() == index.to_bytes()


def test_index_of_nothing_takes_clips(tmp_path: Path):
    clips = planted()
    none = part(clips, slice(0, 0))
    index_of(none, find_duplicates(none, CPU), CPU).save(tmp_path / "dedup.npz")
    index = load_index(tmp_path / "dedup.npz")
    assert index.ids == []
    some = part(clips, slice(0, 1500))
    assert add(index, some, CPU)[0].dup_of == find_duplicates(some, CPU).dup_of


def test_wrong_files_and_clips_are_named(tmp_path: Path):
    clips = part(planted(), slice(0, 100))
    index = index_of(clips, find_duplicates(clips, CPU), CPU)
    with pytest.raises(InputError, match="clip00000 is in the index"):
        add(index, clips, CPU)
    with pytest.raises(InputError, match="serves up to 0.05"):
        add(index, replace(clips, ids=[f"x{name}" for name in clips.ids]), replace(CPU, eps=0.1))
    narrow = replace(clips, ids=[f"x{name}" for name in clips.ids], embeddings=clips.embeddings[:, :8])
    with pytest.raises(InputError, match="8 numbers"):
        add(index, narrow, CPU)
    with pytest.raises(InputError, match="not there"):
        load_index(tmp_path / "dedup.npz")
    index.save(tmp_path / "dedup.npz")
    data = (tmp_path / "dedup.npz").read_bytes()
    for broken in (b"", b"text", data[: len(data) // 2]):
        (tmp_path / "dedup.npz").write_bytes(broken)
        with pytest.raises(InputError, match="no index"):
            load_index(tmp_path / "dedup.npz")
        with pytest.raises(InputError, match="no index"):
            load_index(broken)
