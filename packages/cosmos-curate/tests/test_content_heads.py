"""Heads: what training learns and does not, its split, and files that are no heads."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from cosmos_curate import InputError
from cosmos_curate.content.heads import Head, load_head
from cosmos_curate.content.labelled import train_head_file
from cosmos_curate.content.training import HELD_OUT, STOP, HeadConfig, split, train_head

LABELS = ("clean", "overlay", "third")
SMALL = HeadConfig(hidden=16, batch=16, learning_rate=3e-3)
QUICK = replace(SMALL, epochs=5)


def clusters(rows: int, seed: int = 0, dims: int = 24) -> tuple[np.ndarray, list[str]]:
    """Unit embeddings of three labels, a fifth as many of the last, apart in their first numbers only."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, rows, p=(0.5, 0.4, 0.1))
    points = rng.normal(size=(rows, dims)) * 0.3
    points[np.arange(rows), kinds] += 2
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), [LABELS[kind] for kind in kinds]


def test_training_learns_what_can_be_told_apart_the_rare_label_too() -> None:
    head, report = train_head(*clusters(300), SMALL)
    assert report["accuracy"] > 0.95
    assert report["chance"] < 0.6
    assert min(report["recall"].values()) > 0.8
    fresh, labels = clusters(200, seed=9)
    answers = [head.labels[index] for index in head.probabilities(fresh).argmax(1)]
    assert np.mean([one == other for one, other in zip(answers, labels, strict=True)]) > 0.95


def test_shuffled_labels_are_not_learned_and_the_report_says_so() -> None:
    embeddings, labels = clusters(300)
    mixed = [labels[index] for index in np.random.default_rng(1).permutation(300)]
    _, report = train_head(embeddings, mixed, SMALL)
    assert report["accuracy"] < report["chance"] + 0.15
    assert report["accuracy"] < 0.65


def test_equal_input_gives_an_equal_head_and_another_seed_another() -> None:
    rows = clusters(120)
    one, other = (train_head(*rows, QUICK)[0] for _ in range(2))
    assert one.sha256 == other.sha256
    assert one.provenance == other.provenance
    assert train_head(*rows, replace(QUICK, seed=1))[0].sha256 != one.sha256


def test_the_report_counts_every_row_once() -> None:
    _, report = train_head(*clusters(150), SMALL)
    assert sum(report["rows"].values()) == 150
    confusion = np.array(report["confusion"])
    assert confusion.sum() == report["rows"]["held_out"]
    assert report["accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
    for row, label in enumerate(report["labels"]):
        assert report["recall"][label] == pytest.approx(confusion[row, row] / confusion[row].sum())
    json.dumps(report)


def test_training_stops_early_and_at_the_latest_at_epochs() -> None:
    rows = clusters(150)
    assert train_head(*rows, HeadConfig(hidden=8, epochs=3))[1]["epochs"] == 3
    patient = train_head(*rows, HeadConfig(hidden=8, epochs=4000, patience=3, learning_rate=0.05))[1]
    assert patient["epochs"] < 1000


def test_groups_stay_on_one_side_and_each_label_is_on_all() -> None:
    rng = np.random.default_rng(2)
    groups = [f"video-{index}" for index in rng.integers(0, 40, 400)]
    kind = {group: int(rng.integers(0, 2)) for group in groups}
    targets = np.array([kind[group] for group in groups])
    parts = split(targets, groups, HeadConfig())
    for group in kind:
        assert len({part for part, own in zip(parts.tolist(), groups, strict=True) if own == group}) == 1
    for part in (HELD_OUT, STOP):
        assert set(targets[parts == part]) == {0, 1}
    order = rng.permutation(400)
    assert (split(targets[order], [groups[k] for k in order], HeadConfig()) == parts[order]).all()


def test_a_label_of_one_row_is_trained_on_and_has_no_recall() -> None:
    embeddings, labels = clusters(60)
    labels = ["clean" if label == "third" else label for label in labels]
    labels[0] = "lonely"
    head, report = train_head(embeddings, labels, SMALL)
    assert "lonely" in head.labels
    assert report["recall"]["lonely"] is None


def test_too_little_to_train_on_is_refused() -> None:
    embeddings, _ = clusters(4)
    with pytest.raises(InputError, match="two labels"):
        train_head(embeddings, ["clean"] * 4)
    with pytest.raises(InputError, match="label more clips"):
        train_head(embeddings, ["clean", "clean", "overlay", "overlay"])
    with pytest.raises(InputError, match="4 embeddings and 3 labels"):
        train_head(embeddings, ["clean", "clean", "overlay"])
    with pytest.raises(InputError, match="finite"):
        train_head(np.full((4, 3), np.nan, np.float32), ["clean", "clean", "overlay", "overlay"])


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"learning_rate": 0.0}, {"held_out": 0.0}, {"stop": 0.8}])
def test_senseless_training_settings_are_refused(settings: dict) -> None:
    with pytest.raises(InputError):
        HeadConfig(**settings)


@pytest.fixture
def head() -> Head:
    rng = np.random.default_rng(0)
    arrays = {"mean": (5,), "scale": (5,), "hidden_weight": (5, 4), "hidden_bias": (4,), "output_weight": (4, 2)}
    values = {name: np.abs(rng.normal(size=shape)).astype(np.float32) for name, shape in arrays.items()}
    return Head(labels=("clean", "overlay"), output_bias=np.zeros(2, np.float32), provenance={"from": "x"}, **values)


def test_a_head_comes_back_from_its_file_and_equal_heads_are_equal_files(head: Head, tmp_path: Path) -> None:
    head.save(tmp_path / "new" / "head.npz")
    head.save(tmp_path / "other.npz")
    assert (tmp_path / "new" / "head.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["head.npz"]
    back = load_head(tmp_path / "other.npz")
    assert (back.sha256, back.labels, back.provenance) == (head.sha256, head.labels, {"from": "x"})
    points = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    assert (back.probabilities(points) == head.probabilities(points)).all()
    assert head.probabilities(points).sum(1) == pytest.approx(1)


def test_probabilities_are_those_of_the_written_out_network(head: Head) -> None:
    point = np.array([[0.1, -0.2, 0.3, 0.9, -1]], np.float32)
    hidden = [
        max(
            sum((point[0, d] - head.mean[d]) / head.scale[d] * head.hidden_weight[d, h] for d in range(5))
            + head.hidden_bias[h],
            0,
        )
        for h in range(4)
    ]
    odds = np.exp([sum(hidden[h] * head.output_weight[h, k] for h in range(4)) for k in range(2)])
    assert head.probabilities(point)[0] == pytest.approx(odds / odds.sum(), rel=1e-5)


def test_embeddings_of_another_length_are_refused(head: Head) -> None:
    with pytest.raises(InputError, match="5 numbers, not 6"):
        head.probabilities(np.zeros((1, 6), np.float32))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "other npz", "pickle", "format", "shape", "nan"])
def test_a_file_that_is_no_head_is_one_clear_line(head: Head, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "head.npz"
    head.save(path)
    whole = path.read_bytes()
    fields = dict(np.load(path))
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a head\n")
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        spot = whole.index(head.hidden_weight.tobytes())
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
    elif damage == "other npz":
        np.savez(path, weight=np.zeros(3))
    elif damage == "pickle":
        np.savez(path, **{**fields, "labels": np.array(["a", None], object)})
    elif damage == "format":
        np.savez(path, **{**fields, "format": np.array("something else")})
    elif damage == "shape":
        np.savez(path, **{**fields, "mean": np.zeros(4, np.float32)})
    elif damage == "nan":
        np.savez(path, **{**fields, "output_bias": np.array([np.nan, 0], np.float32)})
    with pytest.raises(InputError, match=r"head\.npz is no head") as caught:
        load_head(path)
    assert "\n" not in str(caught.value)


def test_a_missing_head_is_named() -> None:
    with pytest.raises(InputError, match="no head at nowhere.npz"):
        load_head("nowhere.npz")


def test_reading_a_head_needs_no_torch(head: Head, tmp_path: Path) -> None:
    head.save(tmp_path / "head.npz")
    code = "import sys; from cosmos_curate.content.heads import load_head; load_head(sys.argv[1]); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "head.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A run's output as far as training reads it: embeddings and manifest of 120 clips of 30 videos."""
    embeddings, labels = clusters(120)
    ids = [f"{index:032x}" for index in range(120)]
    flat = pa.array(embeddings.astype(np.float16).ravel())
    table = {"clip_id": pa.array(ids), "embedding": pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])}
    folder = tmp_path / "out"
    folder.mkdir()
    parquet.write_table(pa.table(table), folder / "embeddings.parquet")
    sources = [f"video-{index % 30}" for index in range(120)]
    parquet.write_table(pa.table({"clip_id": ids, "source_sha256": sources}), folder / "manifest.parquet")
    two = ["clean" if label == "third" else label for label in labels]
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip_id", "label", "model"])
        writer.writerows([identity, label, "vlm"] for identity, label in zip(ids, two, strict=True))
        writer.writerow(["not-there", "clean", "vlm"])
    return folder


def test_a_head_is_trained_from_files(output: Path, tmp_path: Path) -> None:
    out = tmp_path / "head.npz"
    head, report = train_head_file(output, output / "labels.csv", out, kind="overlay", config=SMALL)
    assert report["accuracy"] > 0.85
    assert report["unmatched"] == 1
    assert sum(report["rows"].values()) == 120
    assert load_head(out).sha256 == head.sha256 == report["sha256"]
    assert load_head(out).provenance["kind"] == "overlay"
    # Whole videos are held out: some multiple of four clips each.
    assert report["rows"]["held_out"] % 4 == 0


def test_lines_of_json_in_any_order_train_the_same_head(output: Path, tmp_path: Path) -> None:
    with (output / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = tmp_path / "labels.jsonl"
    lines.write_text("\n".join(json.dumps({"clip_id": r["clip_id"], "label": r["label"]}) for r in rows[::-1]) + "\n\n")
    one, _ = train_head_file(output, output / "labels.csv", tmp_path / "a.npz", config=QUICK)
    other, _ = train_head_file(output, lines, tmp_path / "b.npz", config=QUICK)
    assert one.sha256 == other.sha256


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("labels.txt", "clip_id,label\na,clean\n", "csv or .jsonl"),
        ("labels.csv", "clip,label\na,clean\n", "line 2: needs clip_id and label"),
        ("labels.csv", "clip_id,label\na,clean\na,overlay\n", "two labels"),
        ("labels.csv", "clip_id,label\n", "no labels"),
        ("labels.csv", "clip_id,label\na,blurry\n", "'blurry' is no label of kind overlay"),
        ("labels.csv", "clip_id,label\na,clean\nb,overlay\n", "no clip_id of"),
        ("labels.jsonl", '{"clip_id": "a"}\n', "line 1: needs"),
        ("labels.jsonl", "[1]\n", "line 1: needs"),
        ("labels.jsonl", "{\n", "cannot be read as jsonl"),
    ],
)
def test_wrong_labels_are_one_clear_line(output: Path, tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        train_head_file(output, path, tmp_path / "head.npz", kind="overlay")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "head.npz").exists()


def test_a_folder_without_embeddings_is_named(output: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="embeddings.parquet"):
        train_head_file(tmp_path, output / "labels.csv", tmp_path / "head.npz")
