"""Deduplication of clips: the greedy choice against all pairs, clusters, thresholds, odd embeddings, order."""

from dataclasses import replace

import numpy as np
import pytest

from cosmos_curate.dedup.clips import DedupInput
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.find import find_duplicates
from cosmos_curate.errors import InputError

CPU = DedupConfig(device="cpu")


def clips_of(embeddings: np.ndarray, **columns: object) -> DedupInput:
    """Return clips with these embeddings; earlier ones have more pixels."""
    count = len(embeddings)
    given = {
        "ids": [f"clip{row:05d}" for row in range(count)],
        "embeddings": embeddings.astype(np.float16),
        "sha256": [None] * count,
        "phash": [None] * count,
        "duration_s": np.full(count, 5.0),
        "pixels": np.arange(count, 0, -1),
        "bytes": np.full(count, 1000),
        "quality": np.full(count, np.nan, np.float32),
    }
    return DedupInput(**(given | columns))


def grouped(count: int, dimensions: int, groups: int, spread: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(groups, dimensions))
    return centers[rng.integers(groups, size=count)] + spread * rng.normal(size=(count, dimensions))


def by_all_pairs(clips: DedupInput, eps: float) -> tuple[list[str | None], np.ndarray]:
    """The definition: in order of rank, a clip goes if any kept one is near, to the nearest of those."""
    order = sorted(
        range(len(clips.ids)),
        key=lambda r: (-clips.pixels[r], -clips.bytes[r] / clips.duration_s[r], -clips.quality[r], clips.ids[r]),
    )
    unit = clips.embeddings.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    kept: list[int] = []
    dup_of: list[str | None] = [None] * len(order)
    similarity = np.full(len(order), np.nan, np.float32)
    for row in order:
        cosines = unit[kept] @ unit[row]
        if len(kept) and cosines.max() >= np.float32(1 - eps):
            dup_of[row], similarity[row] = clips.ids[kept[int(cosines.argmax())]], cosines.max()
        else:
            kept.append(row)
    return dup_of, similarity


@pytest.mark.parametrize("tile", [13, 64, 2048])
@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
def test_choice_is_that_of_all_pairs(tile: int, eps: float):
    rng = np.random.default_rng(1)
    rows = grouped(301, 5, 40, 0.2)
    clips = clips_of(
        rows,
        pixels=rng.integers(1, 4, size=301),
        bytes=rng.integers(1, 3, size=301) * 1000,
        quality=rng.integers(0, 3, size=301).astype(np.float32),
    )
    found = find_duplicates(clips, replace(CPU, eps=eps, tile=tile))
    dup_of, similarity = by_all_pairs(clips, eps)
    assert found.dup_of == dup_of
    assert any(dup_of)
    np.testing.assert_allclose(found.similarity, similarity, atol=1e-5)
    assert {how for how in found.how if how} == {"embedding"}


def test_dense_chains_longer_than_a_block_are_settled_as_all_pairs_are():
    angle = np.random.default_rng(2).uniform(0, 2 * np.pi, 3000)
    clips = clips_of(
        np.stack([np.cos(angle), np.sin(angle), np.full(3000, 0.2)], 1), quality=np.zeros(3000, np.float32)
    )
    found = find_duplicates(clips, replace(CPU, eps=0.001, tile=256))
    assert [d is None for d in found.dup_of] == [d is None for d in by_all_pairs(clips, 0.001)[0]]


def test_a_chain_keeps_both_ends():
    angle = np.radians([0.0, 10.0, 20.0])
    clips = clips_of(np.stack([np.cos(angle), np.sin(angle)], 1))
    found = find_duplicates(clips, replace(CPU, eps=1 - np.cos(np.radians(12)).item()))
    assert found.dup_of == [None, "clip00000", None]


def test_the_copy_that_passes_stays_then_by_resolution_then_bit_rate_then_quality_then_id():
    same = np.ones((4, 3))
    for winner, columns in zip(
        (0, 1, 2, 3, 2),
        [
            {"pixels": np.array([9, 5, 5, 5]), "bytes": np.array([1, 9, 9, 9])},
            {"pixels": np.full(4, 5), "bytes": np.array([1, 9, 2, 3])},
            {"pixels": np.full(4, 5), "quality": np.array([np.nan, 1, 2, 1], np.float32)},
            {"pixels": np.full(4, 5), "ids": ["d", "c", "b", "a"]},
            {"passes": np.array([False, False, True, False])},
        ],
        strict=True,
    ):
        clips = clips_of(same, **columns)
        found = find_duplicates(clips, CPU)
        assert found.dup_of == [None if row == winner else clips.ids[winner] for row in range(4)]


def shuffled(clips: DedupInput, order: np.ndarray) -> DedupInput:
    return DedupInput(
        ids=[clips.ids[row] for row in order],
        embeddings=clips.embeddings[order],
        sha256=[clips.sha256[row] for row in order],
        phash=[clips.phash[row] for row in order],
        duration_s=clips.duration_s[order],
        pixels=clips.pixels[order],
        bytes=clips.bytes[order],
        quality=clips.quality[order],
    )


@pytest.mark.parametrize("below", [0, 10_000])
def test_order_of_rows_makes_no_difference(below: int):
    config = replace(CPU, exact_below=below, sample=50)
    clips = clips_of(grouped(600, 16, 60, 0.1), pixels=np.full(600, 4))
    order = np.random.default_rng(3).permutation(600)
    first, second = find_duplicates(clips, config), find_duplicates(shuffled(clips, order), config)
    assert any(first.dup_of)
    assert [first.dup_of[row] for row in order] == second.dup_of
    assert first.similarity[order].tobytes() == second.similarity.tobytes()
    assert (first.sweep, first.pairs, first.missed) == (second.sweep, second.pairs, second.missed)


def planted(count: int = 6000, copies: int = 600, dimensions: int = 32) -> DedupInput:
    """Copies of the first rows at the end, at a cosine of about 0.99."""
    rows = grouped(count, dimensions, 50, 0.7)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    noise = np.random.default_rng(4).normal(size=(copies, dimensions))
    rows[count - copies :] = rows[:copies] + 0.14 * noise / np.sqrt(dimensions)
    return clips_of(rows)


def test_clusters_find_what_all_pairs_find_and_measure_what_they_miss():
    clips = planted()
    config = replace(CPU, eps=0.05, sample=6000, train_rows=32)
    exact = find_duplicates(clips, config)
    assert exact.cells == 1
    assert exact.pairs == 0
    assert sum(d is not None for d in exact.dup_of) >= 600
    cut = find_duplicates(clips, replace(config, exact_below=0))
    assert cut.cells > 60
    assert cut.largest_cell < 2000
    lost = sum(one != other for one, other in zip(exact.dup_of, cut.dup_of, strict=True))
    assert lost <= 6
    # The sample is everything, so the estimate is the truth: pairs of copies by all pairs, and those in no cell.
    unit = clips.embeddings.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert abs(int(np.triu(unit @ unit.T >= 0.95, 1).sum()) - cut.pairs) <= 2
    assert cut.missed_rate <= 0.01


def test_pairs_across_borders_are_missed_without_second_cells_and_the_rate_says_so(monkeypatch: pytest.MonkeyPatch):
    from cosmos_curate.dedup import cells

    clips = planted()
    config = replace(CPU, eps=0.05, exact_below=0, sample=6000, train_rows=32)
    with_second = find_duplicates(clips, config)
    assign = cells.assign

    def first_only(*args: object, **options: object) -> cells.Assignment:
        both = assign(*args, **options)
        return cells.Assignment(both.first, np.full_like(both.second, -1))

    monkeypatch.setattr("cosmos_curate.dedup.resolve.assign", first_only)
    alone = find_duplicates(clips, config)
    assert alone.missed > 5 * max(1, with_second.missed)


def test_large_cells_are_split_again_without_loss_of_copies():
    clips = planted()
    config = replace(CPU, eps=0.05, exact_below=0, clusters=2, sample=0)
    whole, parted = find_duplicates(clips, config), find_duplicates(clips, replace(config, most_rows=500))
    assert whole.largest_cell > 2000
    assert parted.largest_cell <= 500
    assert sum(one != other for one, other in zip(whole.dup_of, parted.dup_of, strict=True)) <= 12


def test_rows_that_no_clustering_can_part_are_compared_by_tiles():
    rng = np.random.default_rng(5)
    rows = np.concatenate([np.eye(1, 64) + 0.005 * rng.normal(size=(1500, 64)), rng.normal(size=(100, 64))])
    found = find_duplicates(
        clips_of(rows), replace(CPU, exact_below=0, clusters=4, most_rows=400, tile=128, sample=100)
    )
    assert found.largest_cell >= 1500
    assert found.dup_of[1:1500] == ["clip00000"] * 1499
    assert found.missed == 0


def test_zero_and_infinite_embeddings_are_copies_of_none_but_by_bytes_or_hash():
    rows = np.array([[0, 0], [0, 0], [np.nan, 1], [np.nan, 1], [np.inf, 0], [1, 0], [1, 0.001], [0, 0]], float)
    sha256 = [None, None, "a", "a", None, None, None, None]
    phash = ["0f" * 8, None, None, None, None, None, None, "0f" * 8]
    found = find_duplicates(clips_of(rows, sha256=sha256, phash=phash), CPU)
    assert found.dup_of == [None, None, None, "clip00002", None, None, "clip00005", "clip00000"]
    assert found.how == [None, None, None, "bytes", None, None, "embedding", "hash"]
    assert found.similarity[3] == 1
    assert np.isnan(found.similarity[7])


def test_nothing_and_one_clip():
    none = find_duplicates(clips_of(np.empty((0, 8))), CPU)
    assert none.dup_of == []
    assert none.similarity.shape == (0,)
    assert find_duplicates(clips_of(np.ones((1, 8))), CPU).dup_of == [None]


def test_a_copy_of_a_dropped_clip_names_the_one_that_is_kept():
    # 2 has the bytes of 1, and 1 is near 0: both are copies of 0, at the cosine of their own.
    rows = np.array([[1, 0.0], [1, 0.1], [1, 0.1], [0, 1]])
    found = find_duplicates(clips_of(rows, sha256=["a", "b", "b", "c"]), replace(CPU, sweep=(0.001, 0.01)))
    assert found.dup_of == [None, "clip00000", "clip00000", None]
    assert found.similarity[2] == pytest.approx(1 / np.sqrt(1.01), abs=1e-3)
    # Of four, at 0.001 the one of equal bytes goes, and at 0.01 the near one too.
    assert [point.share for point in found.sweep] == [0.25, 0.5]


def test_copies_by_hash_need_no_near_embedding():
    rows = np.array([[1, 0], [0, 1], [0, -1.0]])
    close = f"{0x00FF00FF00FF00FF:016x}", f"{0x00FF00FF00FF00FC:016x}", f"{0x00FF00FF0FFF0FFF:016x}"
    found = find_duplicates(clips_of(rows, phash=list(close)), CPU)
    assert found.dup_of == [None, "clip00000", None]
    assert found.how == [None, "hash", None]
    assert found.similarity[1] == pytest.approx(0, abs=1e-6)


def test_sweep_rises_and_agrees_with_the_removed_where_no_chain_is():
    clips = planted()
    points = find_duplicates(clips, replace(CPU, eps=0.05, sweep=(0.2, 0.001, 0.05))).sweep
    assert [point.eps for point in points] == [0.001, 0.05, 0.2]
    assert points[0].share < points[1].share < points[2].share
    removed = sum(d is not None for d in find_duplicates(clips, replace(CPU, eps=0.05)).dup_of)
    assert points[1].share == pytest.approx(removed / 6000, abs=0.002)


def test_memory_maps_give_what_arrays_give(tmp_path):
    clips = clips_of(grouped(300, 8, 30, 0.1))
    np.save(tmp_path / "rows.npy", clips.embeddings)
    mapped = replace(clips, embeddings=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    config = replace(CPU, exact_below=0, most_rows=50)
    assert find_duplicates(mapped, config).dup_of == find_duplicates(clips, config).dup_of


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"eps": 0.0}, "eps"),
        ({"eps": 1.0}, "eps"),
        ({"radius": 8}, "radius"),
        ({"clusters": 0}, "clusters"),
        ({"tile": 0}, "tile"),
        ({"sample": -1}, "sample"),
        ({"sweep": (0.1, 2.0)}, "sweep"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], word: str):
    with pytest.raises(InputError, match=word):
        DedupConfig(**change)


def test_wrong_input_is_named():
    with pytest.raises(InputError, match="sha256 has 2 rows for 3"):
        clips_of(np.ones((3, 2)), sha256=["a", "b"])
    with pytest.raises(InputError, match="one id"):
        clips_of(np.ones((2, 2)), ids=["a", "a"])
    with pytest.raises(InputError, match="clusters is 9"):
        find_duplicates(clips_of(np.eye(8)), replace(CPU, exact_below=0, clusters=9))
