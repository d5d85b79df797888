"""The command `search` on the output of a whole run: a clip, a file from elsewhere, words, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_curate.cli import main
from cosmos_curate.clips.cut import clip_name


@pytest.fixture(scope="module")
def scenes(picture):
    """Three panned pictures of 2.5 s, the first and the last of them of the same place."""

    def pan(seed, shift):
        large = picture(160, 360, seed)
        return np.stack([large[20:110, shift + 2 * n : shift + 160 + 2 * n] for n in range(60)])

    return [pan(1, 0), pan(2, 0), pan(1, 8)]


@pytest.fixture(scope="module")
def out(scenes, tmp_path_factory, video):
    """Return the output of a run over the scenes and over a file that is no video."""
    root = tmp_path_factory.mktemp("search")
    (root / "in").mkdir()
    for name, frames in zip("abc", scenes, strict=True):
        video(root / "in" / f"{name}.mp4", frames)
    (root / "in" / "bad.mp4").write_bytes(b"no video")
    fast = ["--detector", "stride", "--set", "cut.guard_s=0.1", "--no-dedup", "--rule", "quality: off"]
    assert main(["run", str(root / "in"), str(root / "out"), *fast]) == 0
    return root / "out"


def rows(out):
    return {row["source"]: row for row in pq.read_table(out / "manifest.parquet").to_pylist()}


def search(out, capsys, *options):
    """Return what the last line says, and all lines."""
    capsys.readouterr()
    assert main(["search", str(out), "--json", *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    return json.loads(lines[-1]), lines


def test_a_clip_finds_the_others_the_alike_one_first(out, capsys):
    clips = rows(out)
    found, lines = search(out, capsys, "--clip", clips["a.mp4"]["clip_id"])
    assert (found["command"], found["by"], found["query"]) == ("search", "embedding", clips["a.mp4"]["clip_id"])
    assert [hit["source"] for hit in found["results"]] == ["c.mp4", "b.mp4"]
    assert 1 > found["results"][0]["score"] > found["results"][1]["score"]
    for hit, line in zip(found["results"], lines[1:], strict=False):
        assert hit["clip_id"] in line
        assert (hit["keep"], hit["shard"]) == (True, clips[hit["source"]]["shard"])


def test_a_clips_own_file_finds_that_clip_first(out, capsys):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        clip = rows(out)[name]["clip_id"]
        found, _ = search(out, capsys, "--clip", str(out / clip_name(clip)), "--top", "1")
        [hit] = found["results"]
        assert hit["clip_id"] == clip
        assert hit["score"] == pytest.approx(1, abs=1e-3)


def test_a_file_from_elsewhere_finds_the_nearest(out, scenes, video, tmp_path, capsys):
    other = video(tmp_path / "elsewhere ü.mp4", scenes[1][::-1, :, ::-1], crf=30)
    found, _ = search(out, capsys, "--clip", str(other))
    assert found["results"][0]["source"] == "b.mp4"
    assert found["searched"] == 3


def test_words_are_found_in_captions_and_the_output_says_that_no_picture_is_looked_at(out, capsys):
    found, lines = search(out, capsys, "--text", "camera")
    assert {hit["source"] for hit in found["results"]} == {"a.mp4", "b.mp4", "c.mp4"}
    assert all(hit["matched"]["caption"] == ["camera"] for hit in found["results"])
    for said in (found["note"], lines[0]):
        assert "BM25" in said
        assert "no CLIP" in said
    assert search(out, capsys, "--text", "zeppelin")[0]["results"] == []


def test_mistakes_are_one_line_and_exit_code_2(out, tmp_path, capsys):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    bad = rows(out)["bad.mp4"]["clip_id"]
    for place, options, word in [
        (out, ["--clip", "0" * 32], "0" * 32),
        (out, ["--clip", bad], bad),
        (out, ["--clip", str(tmp_path / "no.mp4")], "no.mp4"),
        (out, ["--clip", str(tmp_path)], "neither"),
        (out, ["--text", "?!"], "no word"),
        (out, ["--text", "camera", "--top", "0"], "--top 0"),
        (out, ["--text", "camera", "--clip", bad], "not allowed"),
        (out, [], "required"),
        (tmp_path, ["--text", "camera"], "manifest.parquet"),
        (Path("nowhere"), ["--clip", bad], "nowhere"),
    ]:
        assert main(["search", str(place), *options]) == 2, options
        [line] = capsys.readouterr().err.splitlines()
        assert word in line
        assert "Traceback" not in line
    assert not Path("nowhere").exists()
