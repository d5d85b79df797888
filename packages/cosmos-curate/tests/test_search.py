"""Search of a run's output: near clips by table and by index, files outside, words of captions, tags and OCR."""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosmos_curate.dedup.clips import DedupInput
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.find import find_duplicates
from cosmos_curate.dedup.incremental import index_of
from cosmos_curate.errors import InputError
from cosmos_curate.schema import arrow_schema
from cosmos_curate.search.command import add_search_arguments, run_search
from cosmos_curate.search.nearest import nearest_flat, nearest_probed
from cosmos_curate.search.words import match, words


def search(out: Path, *options: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_search_arguments(parser)
    found = run_search(parser.parse_args([str(out), *options]))
    json.dumps(found)
    return found


def write_run(out: Path, embeddings: np.ndarray, rows: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Write manifest and embeddings of a run; a row of NaN has no embedding."""
    names = [f"{index:064x}" for index in range(len(embeddings))]
    given = rows or [{} for _ in names]
    table = [
        {"clip_id": name, "source": "a.mp4", "start_s": 2.0 * at, "end_s": 2.0 * at + 2, "keep": True} | row
        for at, (name, row) in enumerate(zip(names, given, strict=True))
    ]
    columns = [{field.name: row.get(field.name) for field in arrow_schema()} for row in table]
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(columns, arrow_schema()), out / "manifest.parquet")
    fine = np.isfinite(embeddings).all(1)
    flat = pa.array(embeddings[fine].astype(np.float16).ravel())
    held = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    ids = pa.array([name for name, has in zip(names, fine, strict=True) if has])
    pq.write_table(pa.table({"clip_id": ids, "embedding": held}), out / "embeddings.parquet", row_group_size=7)
    return table


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_nearest_clips_of_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cosmos_curate.search.nearest.BATCH", 7)
    rows = unit(np.random.default_rng(0).normal(size=(50, 16)))
    table = write_run(tmp_path, rows)
    found = search(tmp_path, "--clip", table[3]["clip_id"], "--top", "5")
    cosines = rows @ rows[3]
    cosines[3] = -2
    order = np.argsort(-cosines)[:5]
    assert [hit["clip_id"] for hit in found["results"]] == [table[at]["clip_id"] for at in order]
    np.testing.assert_allclose([hit["score"] for hit in found["results"]], cosines[order], atol=2e-3)
    assert found["by"] == "embedding"
    assert found["searched"] == 50
    assert found["results"][0]["clip_id"] in capsys.readouterr().out
    assert len(search(tmp_path, "--clip", table[3]["clip_id"], "--top", "500")["results"]) == 49


def test_index_is_used_and_copies_are_named(tmp_path: Path):
    rng = np.random.default_rng(1)
    rows = unit(rng.normal(size=(30, 24))[rng.integers(30, size=900)] + 0.5 * rng.normal(size=(900, 24)))
    rows[800:] = rows[:100]
    clips = DedupInput(
        ids=[f"{index:064x}" for index in range(900)],
        embeddings=rows.astype(np.float16),
        sha256=[None] * 900,
        phash=[None] * 900,
        duration_s=np.full(900, 2.0),
        pixels=np.full(900, 4),
        bytes=np.full(900, 4),
        quality=np.full(900, np.nan, np.float32),
    )
    config = DedupConfig(device="cpu", exact_below=0, clusters=40, train_rows=20)
    kept = find_duplicates(clips, config)
    table = write_run(tmp_path, rows, [{"dup_of": name, "keep": name is None} for name in kept.dup_of])
    flat = search(tmp_path, "--clip", table[7]["clip_id"])
    assert flat["results"][0]["clip_id"] == table[807]["clip_id"]
    index_of(clips, kept, config).save(tmp_path / "dedup.npz")
    probed = search(tmp_path, "--clip", table[807]["clip_id"])
    assert "index" in probed["note"]
    assert probed["results"][0]["clip_id"] == table[7]["clip_id"]
    assert table[807]["clip_id"] in probed["results"][0]["copies"]
    write_run(tmp_path, rows[:500])
    assert search(tmp_path, "--clip", table[7]["clip_id"])["note"] == "all clips"


def test_probing_finds_most_of_what_the_table_has(tmp_path: Path):
    rng = np.random.default_rng(2)
    rows = unit(rng.normal(size=(60, 24))[rng.integers(60, size=3000)] + 0.6 * rng.normal(size=(3000, 24)))
    write_run(tmp_path, rows)
    clips = DedupInput(
        ids=[f"{index:064x}" for index in range(3000)],
        embeddings=rows.astype(np.float16),
        sha256=[None] * 3000,
        phash=[None] * 3000,
        duration_s=np.full(3000, 2.0),
        pixels=np.full(3000, 4),
        bytes=np.full(3000, 4),
        quality=np.full(3000, np.nan, np.float32),
    )
    config = DedupConfig(device="cpu", exact_below=0, eps=1e-6, sample=0)
    index = index_of(clips, find_duplicates(clips, config), config)
    table, right = pq.ParquetFile(tmp_path / "embeddings.parquet"), 0
    for row in range(0, 3000, 100):
        query = rows[row].astype(np.float32)
        wanted = {name for name, _ in nearest_flat(table, query, 10)}
        right += len(wanted & {name for name, _ in nearest_probed(index, query, 10)})
    assert right > 0.9 * 300


def test_clips_without_embedding_and_unknown_ones_are_named(tmp_path: Path):
    rows = np.array([[1.0, 0], [np.nan, 0], [0, 1]])
    table = write_run(tmp_path, rows, [{}, {"quarantine": "no frame"}, {}])
    assert [hit["score"] for hit in search(tmp_path, "--clip", table[0]["clip_id"])["results"]] == [0.0]
    with pytest.raises(InputError, match="no frame"):
        search(tmp_path, "--clip", table[1]["clip_id"])
    with pytest.raises(InputError, match="neither a clip"):
        search(tmp_path, "--clip", "nothing.mp4")
    with pytest.raises(InputError, match="--top 0"):
        search(tmp_path, "--clip", table[0]["clip_id"], "--top", "0")
    with pytest.raises(InputError, match=r"manifest\.parquet"):
        search(tmp_path / "none", "--text", "dog")
    (tmp_path / "embeddings.parquet").unlink()
    with pytest.raises(InputError, match="embeddings"):
        search(tmp_path, "--clip", table[0]["clip_id"])


def test_a_query_of_another_model_is_refused(tmp_path: Path):
    write_run(tmp_path, np.eye(3))
    with pytest.raises(InputError, match="3 numbers and the query's 4"):
        nearest_flat(pq.ParquetFile(tmp_path / "embeddings.parquet"), np.ones(4, np.float32), 2)


def test_a_file_outside_is_embedded(tmp_path: Path, video: Callable[..., Path], picture: Callable[..., np.ndarray]):
    from cosmos_curate.content.stage import ContentConfig, content_stage
    from cosmos_curate.media.reading import read_samplings
    from cosmos_curate.stage import Item

    stage = content_stage(ContentConfig())
    process, embeddings = stage.open(), []
    for seed in range(3):
        path = video(tmp_path / f"{seed}.mp4", np.stack([picture(96, 128, seed)] * 4))
        item = Item(id=str(seed), path=str(path))
        embeddings.append(process(item, read_samplings(path, stage.samplings))["embedding"])
    table = write_run(tmp_path / "out", np.stack(embeddings))
    again = video(tmp_path / "again.mp4", np.stack([picture(96, 128, 1)] * 5), crf=28)
    found = search(tmp_path / "out", "--clip", str(again), "--top", "1")
    assert [hit["clip_id"] for hit in found["results"]] == [table[1]["clip_id"]]
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="no.mp4"):
        search(tmp_path / "out", "--clip", str(tmp_path / "no.mp4"))


def test_words_of_captions_tags_and_the_picture_are_found_and_the_output_says_what_it_is(tmp_path: Path):
    table = write_run(
        tmp_path,
        np.eye(4),
        [
            {"caption": "A dog runs on a beach.", "tags": ["golden retriever"], "text": None},
            {"caption": "Waves at a beach", "text": "DOG SHOW 2024"},
            {"caption": "A city at night", "tags": ["street sign"], "text": "Hotel"},
            {"caption": None, "windows": [{"caption": "a cat and a dog; another dog"}]},
        ],
    )
    found = search(tmp_path, "--text", "Dog beach")
    assert found["by"] == "text match"
    assert "no CLIP" in found["note"]
    assert {hit["clip_id"] for hit in found["results"]} == {table[at]["clip_id"] for at in (0, 1, 3)}
    assert found["results"][-1]["clip_id"] == table[3]["clip_id"]
    matched = {hit["clip_id"]: hit["matched"] for hit in found["results"]}
    assert matched[table[0]["clip_id"]] == {"caption": ["dog", "beach"]}
    assert matched[table[1]["clip_id"]] == {"caption": ["beach"], "text": ["dog"]}
    assert matched[table[3]["clip_id"]] == {"windows": ["dog"]}
    assert search(tmp_path, "--text", "retriever")["results"][0]["clip_id"] == table[0]["clip_id"]
    assert search(tmp_path, "--text", "zebra")["results"] == []
    with pytest.raises(InputError, match="no word"):
        search(tmp_path, "--text", "?!")


def test_scores_are_those_of_the_equation():
    rows = [{"caption": "a a b"}, {"caption": "b"}, {"caption": "c c c c"}]
    found = {each.row: each.score for each in match(rows, "a b", 10)}
    mean, weight = 8 / 3, {"a": np.log(1 + 2.5 / 1.5), "b": np.log(1 + 1.5 / 2.5)}

    def term(count: int, length: int) -> float:
        return count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))

    assert found == pytest.approx({0: weight["a"] * term(2, 3) + weight["b"] * term(1, 3), 1: weight["b"] * term(1, 1)})
    assert match([], "a", 3) == []


def test_words_have_one_case_and_form():
    assert words("Straße, ÉTÉ_été! ２０２４ don't") == ["strasse", "été", "été", "2024", "don", "t"]
    assert words("東京tower") == ["東", "京", "tower"]


def test_one_of_clip_and_text_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    for options in ([], ["--clip", "a", "--text", "b"]):
        with pytest.raises(SystemExit):
            search(tmp_path, *options)
