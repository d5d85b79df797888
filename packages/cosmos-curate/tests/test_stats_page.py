"""The page of an output: its figures are the manifest's, names are text, and a browser shows it by itself."""

import html
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_curate.cli import main
from cosmos_curate.clips.cut import clip_name
from cosmos_curate.engine.storage import Store
from cosmos_curate.manifest import to_table, with_columns, write_manifest
from cosmos_curate.rules import DEFAULT_RULES
from cosmos_curate.selection import SelectConfig, decide

EVIL = "<script>alert('1')</script>&<img src=x onerror=alert(2)>.mp4"
WORDS = ("Ein schöner Tag", "<b>bold</b> & \"quoted\" 'words'", "$facts $$ ${kept}", None)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Page(HTMLParser):
    """Tags, text, and each table's rows of cells by the id of the figure or heading before it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.tables, self.where, self.facts = [], "", {}, "", []
        self.skip = self.cell = self.fact = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.skip = tag in ("style", "title")
        self.where = given.get("id", self.where)
        if tag == "tr":
            self.tables.setdefault(self.where, []).append([])
        if tag in ("th", "td"):
            self.tables[self.where][-1].append("")
        self.cell = self.cell or tag in ("th", "td")
        self.fact = tag in ("dt", "dd")

    def handle_endtag(self, tag):
        self.skip = False
        self.cell = self.cell and tag not in ("th", "td")
        self.fact = False

    def handle_data(self, data):
        if not self.skip:
            self.text += data
        if self.cell:
            self.tables[self.where][-1][-1] += data
        if self.fact:
            self.facts.append(data)


def row(number, **given):
    """One scored clip; what is given is another value of it."""
    plain = {
        "clip_id": f"{number:032x}",
        "source": f"{number % 3}.mp4",
        "source_sha256": f"{number % 3:064x}",
        "start_s": float(number),
        "end_s": number + 3.0,
        "duration_s": 3.0,
        "num_frames": 72,
        "width": 64,
        "height": 48,
        "motion": 0.03,
        "camera_speed": 0.001,
        "camera_motion": "static",
        "quality": 20.0 + number,
        "text_overlay": 0.0,
        "video_type": "driving",
        "phash": None,
    }
    return plain | given


@pytest.fixture
def finished(tmp_path, video, picture):
    """Write an output of these rows as a run leaves it, and return its folder; there are files of some clips."""

    def make(rows, select=None, captions=WORDS, lost=()):
        out = tmp_path / "out"
        table = to_table(rows)
        decision = decide(table, {}, select or SelectConfig(dedup=None))
        ids, keep = table["clip_id"].to_pylist(), decision.columns["keep"]
        words = itertools.cycle(captions)
        said = [next(words) if stays else None for stays in keep]
        table = with_columns(table, {**decision.columns, "caption": said})
        write_manifest(Store(str(out)), table, models={})
        report = {"funnel": list(decision.funnel), **decision.report, "stages": {}, "config": {}}
        (out / "report.json").write_text(json.dumps(report))
        for number, name in enumerate(ids):
            if name not in lost:
                path = out / clip_name(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                video(path, np.stack([picture(48, 64, number)] * (1 + number % 3)))
        return out

    return make


def mixed():
    """Clips that different rules drop, copies, one that is put aside, and names that are not meant well."""
    rows = [row(number) for number in range(9)]
    rows[1] |= {"duration_s": 0.9583333333333334}
    rows[2] |= {"text_overlay": 0.75}
    rows[3] |= {"motion": 0.0006051249802112579}
    rows[4] |= {"source": EVIL, "source_sha256": "e" * 64}
    rows[5] |= {"source": "copy.mp4", "source_sha256": "e" * 64, "start_s": 4.0, "end_s": 7.0}
    aside = {"clip_id": "f" * 32, "source": "bad.mp4", "source_sha256": "b" * 64, "quarantine": f"no video: {EVIL}"}
    return [*rows, aside]


def shown(out, *options):
    page = out.parent / "page.html"
    assert main(["stats", str(out), "--page", str(page), *options]) == 0
    return page.read_text("utf-8")


def manifest(out):
    return pq.read_table(out / "manifest.parquet").to_pylist()


def counted(rows):
    """How many clips each step left, from the manifest alone."""
    left, found = len(rows), {"found": len(rows)}
    names = {"quarantine": "usable", "duplicate": "unique"}
    order = ["quarantine", *(r.name for r in DEFAULT_RULES if not r.ranks), "duplicate"]
    for rule in [*order, *(r.name for r in DEFAULT_RULES if r.ranks)]:
        left -= sum(r["drop_rule"] == rule for r in rows)
        found[names.get(rule, rule)] = left
    return found


def test_figures_are_those_of_the_manifest(finished):
    out = finished(mixed())
    page, rows = Page(shown(out)), manifest(out)
    tests = {rule.name: rule.test for rule in DEFAULT_RULES}
    funnel = {}
    for label, _, left, *_ in page.tables["plot-funnel"][1:]:
        name = re.match("[a-z]+?(?=clips|not|no |$)|" + "|".join(tests), label).group()
        assert tests.get(name, "") in label
        funnel[name] = int(left)
    assert funnel == counted(rows)
    assert "aesthetic >= 3.5: no clip has a value" in page.text
    kept = sum(r["keep"] for r in rows)
    assert 0 < kept < len(rows)
    assert list(zip(page.facts[::2], page.facts[1::2], strict=True))[:6] == [
        ("Videos", str(len({r["source"] for r in rows}))),
        ("Clips", "9"),
        ("Kept", str(kept)),
        ("Length kept", f"{3 * kept:.1f} s"),
        ("Length of all", "25.0 s"),
        ("Put aside", "1"),
    ]
    assert page.tables["quarantined"][1:] == [["bad.mp4", f"no video: {EVIL}"]]
    lengths = {label: (int(k), int(d)) for label, _, k, d in page.tables["plot-duration_s"][1:]}
    assert lengths == {"below 2": (0, 1), "2 to 5": (kept, 8 - kept)}


def test_reasons_are_said_in_few_digits_and_copies_name_their_original(finished):
    page = Page(shown(finished(mixed())))
    copy = f"copy of {EVIL}, from 4.0 s, cosine 1.000"
    for said in ("length: 0.9583", "text: 0.75", "static: static, 0.0006051", copy):
        assert said in page.text
    assert "0.95833" not in page.text


def test_names_and_captions_are_text_whatever_is_in_them(finished):
    text = shown(finished(mixed()))
    page = Page(text)
    assert EVIL in page.text
    for words in WORDS[:3]:
        assert words in page.text
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object"})
    assert not [given for _, given in page.tags if any(name.startswith("on") for name in given)]
    pictures = [given["src"] for tag, given in page.tags if tag == "img"]
    assert len(pictures) == 9
    assert all(source.startswith("data:image/jpeg;base64,") for source in pictures)
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)[a-z/]", text.split("<body>")[0])
    assert "default-src 'none'" in text


def test_a_clip_whose_file_is_gone_or_bad_is_shown_without_picture(finished):
    out = finished([row(number) for number in range(3)], lost=(row(1)["clip_id"],))
    (out / clip_name(row(2)["clip_id"])).write_bytes(b"no video")
    page = Page(shown(out))
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 1
    assert page.text.count("No picture") == 2


def test_a_copy_of_equal_bytes_shows_its_originals_picture(finished):
    rows = [row(4, source="a.mp4"), row(5, source="b.mp4", source_sha256=row(4)["source_sha256"])]
    rows[1] |= {"start_s": 4.0, "end_s": 7.0}
    page = Page(shown(finished(rows, lost=(row(5)["clip_id"],))))
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    assert "copy of a.mp4, from 4.0 s" in page.text


def test_so_many_of_each_kind_are_shown_evenly(finished):
    out = finished([row(number, duration_s=3.0 if number % 2 else 1.0) for number in range(20)])
    page = Page(shown(out, "--thumbnails", "2"))
    assert "2 of 9 clips in the shards" in page.text
    assert "2 of 10 clips dropped" in page.text
    assert "1 clip dropped" in page.text  # the lowest in quality
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 5
    assert not [tag for tag, _ in Page(shown(out, "--thumbnails", "0")).tags if tag == "img"]
    assert main(["stats", str(out), "--thumbnails", "-1"]) == 2


@pytest.mark.parametrize("rows", [[], [row(0, duration_s=1.0), row(1, duration_s=0.5)]])
def test_nothing_kept(finished, rows):
    out = finished(rows)
    page = Page(shown(out))
    assert "No clip was kept." in page.text
    assert ("No clip was dropped." in page.text) == (not rows)
    assert ("No clip has a value." in page.text) == (not rows)
    assert page.facts[5] == "0"
    assert "plot-mix" not in page.tables


def test_everything_put_aside(finished):
    rows = [{"clip_id": f"{n:032x}", "source": f"{n}.mp4", "quarantine": f"reason {n}"} for n in range(250)]
    page = Page(shown(finished(rows, lost={r["clip_id"] for r in rows})))
    assert "200 of 250 videos and clips that could not be used" in page.text
    assert len(page.tables["quarantined"]) == 201
    assert [r[2:4] for r in page.tables["plot-funnel"][1:3]] == [["250", "–"], ["0", "250"]]
    assert page.facts[page.facts.index("Clips") + 1] == "0"


def test_clips_that_no_captioner_could_do_are_a_step_of_the_funnel(finished):
    out = finished([row(number, quality=50.0) for number in range(4)])
    table = pq.read_table(out / "manifest.parquet")
    reasons = [None, None, None, "no answer"]
    table = with_columns(table, {"keep": [True, True, True, False], "quarantine": reasons, "drop_rule": reasons})
    write_manifest(Store(str(out)), table, models={})
    page = Page(shown(out))
    assert page.tables["plot-funnel"][-1] == ["captionednot put aside by the captioner", "", "3", "1", "9.0 s"]


def test_the_mix_that_a_run_was_told_to_reach_is_the_target(finished):
    from cosmos_curate.content.mix import MixConfig

    kinds = ("driving", "driving", "first-person view")
    rows = [row(number, video_type=kind, quality=50.0) for number, kind in enumerate(kinds)]
    mix = MixConfig(target={"driving": 1.0, "first-person view": 3.0}, size=4)
    page = Page(shown(finished(rows, SelectConfig(dedup=None, mix=mix))))
    shares = {label: figures for label, _, *figures in page.tables["plot-mix"][1:]}
    assert shares["driving"] == ["25 %", "25 %"]
    assert shares["first-person view"] == ["75 %", "75 %"]
    assert "was told to reach" in page.text
    assert "mixwanted by the mix of types" in [cells[0] for cells in page.tables["plot-funnel"]]


def test_the_page_lies_in_the_output_or_where_it_is_asked_and_json_says_so(finished, capsys):
    out = finished(mixed())
    assert main(["stats", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Path(said["page"]) == out / "index.html"
    assert Path(said["page"]).is_file()
    assert said["funnel"][0]["clips"] == 10
    assert {one["name"] for one in said["distributions"]} >= {"duration_s", "mix"}
    (out / "report.json").unlink()
    assert main(["stats", str(out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


LOOK = """<!doctype html><meta charset="utf-8"><body>%s<script>
let ran = false;
window.alert = () => { ran = true; };
window.onload = () => {
  document.body.dataset.seen = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement, all = words => [...page.querySelectorAll(words)];
    const wide = bar => bar.getBoundingClientRect().width;
    return {
      ran, needed: root.scrollWidth, room: root.clientWidth,
      pictures: all("img").map(picture => picture.naturalWidth),
      bars: all("rect").map(wide),
      funnel: all("#plot-funnel tbody tr").map(row => ({
        step: row.querySelector("th").firstChild.textContent,
        left: Number(row.querySelector(".figure").textContent),
        bar: Math.max(0, ...[...row.querySelectorAll(".kept")].map(wide))})),
      smallest: Math.min(...all("th, td, p, small").map(one => parseFloat(getComputedStyle(one).fontSize))),
    };
  }));
};
</script></body>"""
"""Shows a page in frames, and once all is loaded says in an attribute what is seen there."""


@pytest.mark.slow
def test_a_browser_shows_pictures_bars_and_the_manifests_numbers(finished, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"Chromium is not installed: none of {', '.join(BROWSERS)} is on PATH")
    out = finished(mixed())
    text = html.escape(shown(out).replace(' loading="lazy"', ""))
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{text}"></iframe>' for width in (420, 1280))
    (tmp_path / "look.html").write_text(LOOK % frames, "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "look.html").as_uri()]
    dom = subprocess.run([browser, *options], capture_output=True, text=True, timeout=240, check=True)
    assert "CONSOLE" not in dom.stderr
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', dom.stdout).group(1)))
    assert len(seen) == 2
    expected = counted(manifest(out))
    for one in seen:
        assert not one["ran"]
        assert one["needed"] <= one["room"]
        assert len(one["pictures"]) == 9
        assert min(one["pictures"]) > 0
        assert len(one["bars"]) > 20
        assert min(one["bars"]) > 0
        assert {row["step"]: row["left"] for row in one["funnel"]} == expected
        unit = one["funnel"][0]["bar"] / expected["found"]
        widths = {row["step"]: row["bar"] for row in one["funnel"]}
        assert widths == pytest.approx({name: unit * left for name, left in expected.items()}, rel=0.02)
        assert one["smallest"] >= 11
