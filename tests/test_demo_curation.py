"""The demo's last part: videos become clips, what cannot be had is named, and the page says what came out."""

import html
import importlib.util
import json
import re
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_tokenizer.video import Video, write_video


@pytest.fixture
def demo(root, monkeypatch):
    """The demo's module, which reaches for no network."""
    monkeypatch.syspath_prepend(str(root / "scripts"))
    spec = importlib.util.spec_from_file_location("demo", root / "scripts" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.footage, "FETCHERS", {})
    return module


@pytest.fixture
def curation(demo):
    return demo.demo_curation


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two of the videos, and one that is not for the demo; the current folder is empty."""
    t, y, x = np.mgrid[:72, :72, :96].astype(np.float32)
    (tmp_path / "footage").mkdir()
    for seed, name in enumerate(("bikes", "carphone", "film")):
        fields = np.random.default_rng(seed).uniform(0.05, 0.9, (6, 3))
        waves = sum(np.sin(a * x + b * y + (a + 0.2) * t / 2 + c * 9) for a, b, c in fields)
        frames = np.clip(127 + 25 * waves[..., None] * (1, 0.8, 0.6), 0, 255).astype(np.uint8)
        write_video(tmp_path / "footage" / f"{name}.mp4", Video(frames=frames, rate=Fraction(24)))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "footage"


def rows(text):
    """The figures of the section by the name of their row."""
    return {name: html.unescape(said) for name, said in re.findall(r'<tr id="curated-(\w+)">.*?<td>(.*?)</td>', text)}


def test_what_is_there_is_taken_and_what_cannot_be_had_is_named(curation, folder):
    why = curation.gather(folder)
    assert sorted(path.name for path in Path("videos").iterdir()) == ["bikes.mp4", "carphone.mp4"]
    assert Path("videos", "bikes.mp4").read_bytes() == (folder / "bikes.mp4").read_bytes()
    assert "bunny.mp4, trailer.mp4" in why
    assert "bikes.mp4" not in why
    assert len(why.splitlines()) == 1


def test_what_is_missing_is_fetched_and_nothing_else(curation, folder, monkeypatch):
    asked = []

    def fetch(out, groups):
        asked.append(groups)
        for group in groups:
            shutil.copyfile(folder / "bikes.mp4", out / f"{group}.mp4")
        return []

    monkeypatch.setattr(curation.footage, "fetch", fetch)
    assert curation.gather(folder) is None
    assert asked == [("bunny", "trailer")]
    assert sorted(path.stem for path in Path("videos").iterdir()) == sorted(curation.GROUPS)
    shutil.rmtree("videos")
    assert curation.gather(folder) is None
    assert len(asked) == 1


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("bad list")])
def test_a_fetch_that_fails_altogether_is_a_reason(curation, folder, monkeypatch, error):
    def fail(*_):
        raise type(error)(f"{error} {sys.executable} -m pip")

    monkeypatch.setattr(curation.footage, "fetch", fail)
    assert f"({error} python -m pip)" in curation.gather(folder)


def test_the_section_says_what_the_figures_are_and_takes_names_for_text(curation):
    clip = {"file": "curated/clips/aa/aa.mp4", "source": "<b>.mp4", "start_s": 0.5, "duration_s": 3.0}
    figures = {
        "sources": [{"name": "a.mp4", "package": "p", "licence": "<i>", "author": "A & B"}],
        "left_out": "Left out: <trailer>",
        "videos": 3,
        "clips": 19,
        "kept": 2,
        "hours": 0.1,
        "kept_hours": 0.0125,
        "shards": 1,
        "elapsed_s": 75.26,
        "put_aside": 1,
        "drops": {"length": 16, "quality": 1},
        "shown": [{**clip, "camera_motion": "static", "caption": "<script>"}],
        "steps": 3,
        "recipe": "tokenizer-toy",
    }
    text = curation.section(figures)
    assert rows(text) == {
        "videos": "3",
        "clips": "19, 6.0 min",
        "drops": "16 by length, 1 by quality",
        "put_aside": "1",
        "kept": "2, 45.0 s",
        "shards": "1",
        "elapsed": "75.3 s",
    }
    assert "1 of the 2 kept clips" in text
    assert "3 steps of tokenizer-toy" in text
    for name in ("<b>", "<script>", "<trailer>", "<i>"):
        assert name not in text
        assert html.escape(name) in text
    assert "$" not in text
    nothing = {**figures, "kept": 0, "shown": [], "drops": {}, "left_out": None}
    assert rows(curation.section(nothing))["drops"] == "none"


@pytest.mark.slow
def test_videos_become_shards_that_the_loop_trains_on(demo, curation, folder, monkeypatch, capsys):
    monkeypatch.setattr(curation, "RUN", ("--detector", "stride", "--set", "cut.guard_s=0.1", "--no-dedup"))
    small = ("--set", "data.crop=32", "--set", "data.sides=[32]", "--set", "validation_clips=1")
    monkeypatch.setattr(curation, "RECIPE", (*curation.RECIPE, *small))
    found = curation.curate(folder, demo.run)
    clips = pq.read_table("curated/manifest.parquet").to_pylist()
    assert (found["videos"], found["clips"]) == (2, len(clips)) == (2, 2)
    assert found["kept"] == sum(row["keep"] for row in clips) == len(found["shown"]) > 0
    assert found["steps"] == 3
    assert all(Path(clip["file"]).is_file() for clip in found["shown"])
    assert [source["name"] for source in found["sources"]] == ["bikes.mp4", "carphone.mp4"]
    assert [line[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")] == found["commands"]
    assert not Path("trained").exists()
    text = curation.section(json.loads(json.dumps(found)))
    for link in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert Path(link).is_file(), link
