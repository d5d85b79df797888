"""The whole run on a small folder: what is kept, put aside and written; again, elsewhere and after `select`."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_curate.cli import main
from cosmos_curate.schema import COLUMNS

FAST = ["--detector", "content", "--set", "cut.guard_s=0.25"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video, picture) -> Path:
    """Two shots in one file, one in another, its copy under another name, and files that are no videos."""
    root = tmp_path_factory.mktemp("footage")
    rng = np.random.default_rng(0)

    def pan(seed, frames, dx, dy=0):
        large = picture(260, 480, seed)
        return np.stack([large[20 + dy * n : 110 + dy * n, 20 + dx * n : 180 + dx * n] for n in range(frames)])

    video(root / "two shots ü.mp4", np.concatenate([pan(1, 72, 2), pan(2, 72, 0, 1)]))
    (root / "deep" / "er").mkdir(parents=True)
    video(root / "deep" / "er" / "one.mp4", pan(3, 84, 1))
    shutil.copy(root / "deep" / "er" / "one.mp4", root / "the same.mp4")
    (root / "not a video.mp4").write_bytes(rng.bytes(5000))
    (root / "empty.mp4").write_bytes(b"")
    whole = (root / "two shots ü.mp4").read_bytes()
    (root / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "notes.txt").write_text("no video")
    os.symlink("..", root / "deep" / "loop")
    return root


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory) -> Path:
    """Return the output of a first run."""
    path = tmp_path_factory.mktemp("first") / "out"
    assert main(["run", str(folder), str(path), *FAST]) == 0
    return path


def files(out: Path) -> dict[str, bytes]:
    """Return what an output says to the world: manifest, embeddings and shards."""
    assert (out / "embeddings.parquet").is_file()
    found = [out / "manifest.parquet", out / "embeddings.parquet", *sorted((out / "shards").rglob("*"))]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found if path.is_file()}


def rows(out: Path) -> list[dict]:
    return pq.read_table(out / "manifest.parquet").to_pylist()


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_every_clip_has_a_row_and_what_is_listed_is_there(out):
    found = rows(out)
    assert [column.name for column in COLUMNS] == list(found[0])
    assert len({row["clip_id"] for row in found}) == len(found)
    by_source = {}
    for row in found:
        by_source.setdefault(row["source"], []).append(row)
    assert sorted(by_source) == [
        "deep/er/one.mp4",
        "empty.mp4",
        "not a video.mp4",
        "the same.mp4",
        "truncated.mp4",
        "two shots ü.mp4",
    ]
    for name in ("empty.mp4", "not a video.mp4", "truncated.mp4"):
        [row] = by_source[name]
        assert row["quarantine"]
        assert row["drop_rule"] == "quarantine"
        assert not row["keep"]
    assert [row["num_frames"] for row in by_source["two shots ü.mp4"]] == [60, 60]
    [one], [same] = by_source["deep/er/one.mp4"], by_source["the same.mp4"]
    assert (same["drop_rule"], same["dup_of"], same["dup_similarity"]) == ("duplicate", one["clip_id"], 1.0)
    for row in found:
        if row["quarantine"] is None and row["dup_of"] is None:
            path = out / "clips" / row["clip_id"][:2] / f"{row['clip_id']}.mp4"
            assert frames(path) == row["num_frames"]
            assert path.stat().st_size == row["bytes"]
            assert row["end_s"] - row["start_s"] == pytest.approx(row["duration_s"]) == pytest.approx(frames(path) / 24)
            assert row["camera_motion"]
            assert 0 <= row["quality"] <= 100


def test_bars_are_cut_off_and_pieces_of_fixed_length_touch(tmp_path, video, picture):
    large = picture(160, 360, 5)
    barred = np.zeros((96, 120, 160, 3), np.uint8)
    for number in range(96):
        barred[number, 20:100] = large[20:100, number : number + 160]
    (tmp_path / "in").mkdir()
    video(tmp_path / "in" / "barred.mp4", barred)
    stride = ["--detector", "stride", "--set", "shots.stride_s=2", "--no-dedup"]
    assert main(["run", str(tmp_path / "in"), str(tmp_path / "out"), *stride]) == 0
    one, other = rows(tmp_path / "out")
    assert (one["start_s"], one["end_s"], other["end_s"]) == (0, other["start_s"], 4)
    left, top, right, bottom = one["letterbox"]
    assert top >= 18
    assert bottom >= 18
    assert (one["width"], one["height"]) == (160 - left - right, 120 - top - bottom)


def test_shards_hold_just_the_kept_clips_with_their_records(out):
    kept = {row["clip_id"]: row for row in rows(out) if row["keep"]}
    assert kept
    seen = set()
    for tar in (out / "shards").rglob("*.tar"):
        sums = json.loads(tar.with_suffix(".json").read_text())
        assert sums["bytes"] == tar.stat().st_size
        with tarfile.open(tar) as opened:
            members = {member.name: opened.extractfile(member).read() for member in opened}
        for key in {name.partition(".")[0] for name in members}:
            row = kept[key]
            seen.add(key)
            assert (row["shard"], row["key"]) == (tar.relative_to(out).as_posix(), key)
            said = json.loads(members[f"{key}.json"])
            assert said["num_frames"] == row["num_frames"]
            assert said["caption"] == row["caption"]
            assert said["caption_source"] == "template"
            assert len(members[f"{key}.mp4"]) == row["bytes"]
    assert seen == set(kept)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_webdataset_reads_them(out):
    import webdataset

    tars = sorted(map(str, (out / "shards").rglob("*.tar")))
    keys = {sample["__key__"] for sample in webdataset.WebDataset(tars, shardshuffle=False)}
    assert keys == {row["clip_id"] for row in rows(out) if row["keep"]}


def test_again_nothing_is_done_twice_and_nothing_changes(folder, out, tmp_path, capsys):
    before = files(out)
    assert main(["run", str(folder), str(out), *FAST, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert files(out) == before
    for name, stage in report["stages"].items():
        if name not in ("identify", "cut", "decode"):
            assert stage["reused"] == stage["items"], name
    clips_s = sum(row["duration_s"] for row in rows(out) if row["sha256"] and row["source"] != "the same.mp4")
    for name in ("transcode", "motion"):
        assert report["stages"][name]["video_s"] == pytest.approx(clips_s), name


def test_in_another_place_it_is_the_same_to_the_byte(folder, out, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "other", symlinks=True)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["run", str(tmp_path / "other"), str(tmp_path / "out"), *FAST, "--cpus", "1"]) == 0
    assert files(tmp_path / "out") == files(out)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) in ([], [".lock"])


def test_select_needs_no_inference_and_goes_back_to_the_byte(folder, out, tmp_path, monkeypatch):
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    for kind in ("motion.stage.motion_stage", "quality.stage.quality_stage", "content.stage.content_stage"):
        monkeypatch.setattr(f"cosmos_curate.{kind}", None)
    before = rows(copy)
    assert main(["select", str(copy), "--rule", "length: duration_s >= 3"]) == 0
    after = rows(copy)
    assert [row["clip_id"] for row in after] == [row["clip_id"] for row in before]
    dropped = {row["clip_id"] for row in after if row["drop_rule"] == "length"}
    assert dropped == {row["clip_id"] for row in after if row["duration_s"] is not None and row["duration_s"] < 3}
    assert dropped
    assert main(["select", str(copy)]) == 0
    assert files(copy) == files(out)
    assert main(["select", str(copy), "--set", "transcode.quality=30"]) == 2


def test_cosmos_layout_has_parallel_tars_and_says_what_is_left_out(out, tmp_path, capsys):
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    assert main(["select", str(copy), "--layout", "cosmos"]) == 0
    assert "t5_xxl" in capsys.readouterr().out
    videos = sorted((copy / "shards").rglob("video/part_*/*.tar"))
    assert videos
    for tar in videos:
        metas = Path(str(tar).replace("/video/", "/metas/"))
        with tarfile.open(tar) as one, tarfile.open(metas) as other:
            assert [n.removesuffix(".mp4") for n in one.getnames()] == [
                n.removesuffix(".json") for n in other.getnames()
            ]
    assert {path.suffix for path in (copy / "shards").rglob("*") if path.is_file()} == {".tar", ".idx", ".json"}
    assert len(list((copy / "shards").rglob("*.tar"))) == 2 * len(videos)


def test_mistakes_are_one_line_and_exit_code_2(folder, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    cases = [
        ["run", str(tmp_path / "none"), str(tmp_path / "o")],
        ["run", str(tmp_path / "missing"), str(tmp_path / "o")],
        ["run", str(folder), str(folder)],
        ["run", str(folder), str(folder / "deep" / "out")],
        ["run", str(folder / "deep"), str(folder)],
        ["run", str(folder), str(tmp_path / "o"), "--rule", "length > 2"],
        ["run", str(folder), str(tmp_path / "o"), "--set", "shots.treshold=1"],
        ["run", str(folder), str(tmp_path / "o"), "--detector", "autoshot"],
        ["run", str(folder), str(tmp_path / "o"), "--max-quarantine", "2"],
        ["run", str(folder), str(tmp_path / "o"), "--text-encoder", "t5"],
        ["select", str(tmp_path / "none")],
        ["stats", str(tmp_path / "none")],
    ]
    for case in cases:
        assert main(case) == 2, case
        captured = capsys.readouterr()
        assert len(captured.err.splitlines()) == 1, (case, captured.err)
        assert not (tmp_path / "o").exists() or not list((tmp_path / "o").rglob("*.mp4")), case
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["deep", "empty.mp4", "not a video.mp4", "notes.txt", "the same.mp4", "truncated.mp4", "two shots ü.mp4"]
    )


def test_nothing_usable_and_too_much_put_aside_exit_1(folder, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    shutil.copy(folder / "not a video.mp4", tmp_path / "bad")
    assert main(["run", str(tmp_path / "bad"), str(tmp_path / "o"), *FAST]) == 1
    assert "was usable" in capsys.readouterr().err
    assert rows(tmp_path / "o")[0]["quarantine"]
    shutil.copy(folder / "deep" / "er" / "one.mp4", tmp_path / "bad")
    assert main(["run", str(tmp_path / "bad"), str(tmp_path / "o"), *FAST]) == 0
    assert main(["run", str(tmp_path / "bad"), str(tmp_path / "o"), *FAST, "--max-quarantine", "0.3"]) == 1
    assert "limit of 0.3" in capsys.readouterr().err


def test_page_shows_funnel_clips_and_reasons(out, tmp_path):
    page = tmp_path / "page.html"
    assert main(["stats", str(out), "--page", str(page)]) == 0
    text = page.read_text()
    kept = [row for row in rows(out) if row["keep"]]
    assert text.count("data:image/jpeg;base64,") >= len(kept)
    assert "two shots ü.mp4" in text
    assert "not a video.mp4" in text
    assert "http" not in text.replace("http-equiv", "")


def test_of_equal_files_one_that_passes_is_kept(out, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    assert main(["select", str(copy), "--rule", "names: source != deep/er/one.mp4"]) == 0
    found = {row["source"]: row for row in rows(copy)}
    one, same = found["deep/er/one.mp4"], found["the same.mp4"]
    assert (one["drop_rule"], one["dup_of"]) == ("names", same["clip_id"])
    assert (same["keep"], same["dup_of"]) == (True, None)
    with tarfile.open(copy / same["shard"]) as tar:
        assert len(tar.extractfile(f"{same['key']}.mp4").read()) == same["bytes"]
