"""The manifest: equal rows give equal bytes in any order, parts at scale, and files of another schema are named."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosmos_curate import InputError, manifest
from cosmos_curate.engine.storage import Store
from cosmos_curate.manifest import (
    models_of,
    read_manifest,
    to_parquet,
    to_table,
    with_columns,
    write_lance,
    write_manifest,
)
from cosmos_curate.schema import COLUMNS, VERSION, arrow_schema


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "clip_id": f"{number:032x}",
            "source": f"{number % 3} ü.mp4",
            "start_s": float(rng.uniform(0, 100)),
            "motion": float(rng.normal()),
            "tags": ["a", "b"][: number % 3],
            "letterbox": [0, 4, 0, 4],
            "windows": [{"first_frame": 0, "end_frame": 9, "caption": "x", "status": "ok"}],
            "keep": bool(number % 2),
            "unknown": object(),
        }
        for number in range(count)
    ]


def test_equal_rows_give_equal_bytes_in_any_order(tmp_path):
    made = rows(50)
    shuffled = [made[place] for place in np.random.default_rng(1).permutation(50)]
    assert to_parquet(to_table(made)) == to_parquet(to_table(shuffled))
    names = to_table(made).select(["source", "start_s"]).to_pylist()
    assert names == sorted(names, key=lambda row: (row["source"], row["start_s"]))


def test_it_reads_back_with_its_models(tmp_path):
    store, table = Store(tmp_path / "out"), to_table(rows(7))
    write_manifest(store, table, models={"b": "2", "a": "1"})
    first = store.read_bytes("manifest.parquet")
    back = read_manifest(store)
    assert back.to_pylist() == table.to_pylist()
    assert models_of(back) == {"a": "1", "b": "2"}
    write_manifest(store, back, models=models_of(back))
    assert store.read_bytes("manifest.parquet") == first
    assert [(field.name, field.type) for field in back.schema] == [(f.name, f.type) for f in arrow_schema()]
    assert back.schema.names == [column.name for column in COLUMNS]


def test_many_rows_go_to_parts_and_stale_ones_go(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "MOST_ROWS", 10)
    store, table = Store(tmp_path), to_table(rows(35))
    write_manifest(store, to_table(rows(5)), models={})
    write_manifest(store, table, models={})
    assert store.list("manifest") == [f"manifest/{part:05}.parquet" for part in range(4)]
    assert not store.exists("manifest.parquet")
    assert read_manifest(store).to_pylist() == table.to_pylist()
    write_manifest(store, table.slice(0, 12), models={})
    assert store.list("manifest") == ["manifest/00000.parquet", "manifest/00001.parquet"]
    write_manifest(store, table.slice(0, 3), models={})
    assert store.list("") == ["manifest.parquet"]


def test_columns_are_replaced_in_their_types(tmp_path):
    table = with_columns(to_table(rows(3)), {"keep": [True, False, None], "dup_similarity": [0.5, None, 1]})
    assert table["keep"].to_pylist() == [True, False, None]
    assert table.schema.field("dup_similarity").type == pa.float32()
    assert table.schema.names == arrow_schema().names


def test_what_is_no_manifest_is_named(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(InputError, match="holds no manifest"):
        read_manifest(store)
    store.write_whole("manifest.parquet", b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(store)
    major = int(VERSION.partition(".")[0])
    other = to_table(rows(1)).replace_schema_metadata({"cosmos_curate.schema": f"{major + 1}.0"})
    store.write_whole("manifest.parquet", to_parquet(other))
    with pytest.raises(InputError, match=f"schema {major + 1}.0"):
        read_manifest(store)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "manifest.parquet")
    with pytest.raises(InputError, match="schema none"):
        read_manifest(store)


def test_a_lance_dataset_has_the_same_rows_and_takes_new_ones(tmp_path):
    lance = pytest.importorskip("lance", reason="Lance is an extra")
    store = Store(tmp_path)
    write_lance(store, to_table(rows(5)))
    write_lance(store, to_table(rows(3)))
    assert lance.dataset(str(tmp_path / "manifest.lance")).to_table().to_pylist() == to_table(rows(3)).to_pylist()


def test_without_lance_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(InputError, match=r"cosmos-curate\[lance\]"):
        write_lance(Store(tmp_path), to_table(rows(1)))
