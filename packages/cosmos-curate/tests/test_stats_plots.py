"""Bars are as wide as their counts, figures are the counts, and names are text whatever is in them."""

from html.parser import HTMLParser

import pytest

from cosmos_curate.stats.amounts import length, rounded
from cosmos_curate.stats.distributions import Distribution
from cosmos_curate.stats.plots import bars, funnel


class Rows(HTMLParser):
    """Each row of a plot's body: its label, the bars' kinds, places and widths, and its figures."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.where, self.tags = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append({"label": "", "bars": [], "figures": []})
        if tag in ("th", "td"):
            self.where = given["class"]
            if self.where == "figure":
                self.rows[-1]["figures"].append("")
        if tag == "rect":
            self.rows[-1]["bars"].append((given["class"], float(given["x"]), float(given["width"])))

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.where = ""

    def handle_data(self, data):
        if self.where == "label":
            self.rows[-1]["label"] += data
        if self.where == "figure":
            self.rows[-1]["figures"][-1] += data


def plot(labels=("a", "b"), kept=(1, 0), dropped=(0, 0), target=None, title="Title"):
    return Distribution(name="name", title=title, labels=labels, kept=kept, dropped=dropped, target=target)


def test_widths_are_the_counts_and_dropped_follows_kept():
    rows = Rows(bars(plot(kept=(3, 1), dropped=(5, 3)))).rows
    assert rows[0]["figures"] == ["Kept", "Dropped"]
    assert rows[1] == {"label": "a", "bars": [("kept", 0, 37.5), ("dropped", 37.5, 62.5)], "figures": ["3", "5"]}
    assert rows[2] == {"label": "b", "bars": [("kept", 0, 12.5), ("dropped", 12.5, 37.5)], "figures": ["1", "3"]}


def test_one_of_millions_shows_and_nothing_leaves_the_picture():
    rows = Rows(bars(plot(kept=(4_000_000, 1), dropped=(1, 0)))).rows
    for row in rows[1:]:
        for _, x, width in row["bars"]:
            assert width >= 0.5
            assert 0 <= x <= x + width <= 100.001
    assert rows[1]["figures"] == ["4,000,000", "1"]


def test_empty_bars_are_left_out_at_the_ends_and_stay_between():
    labels = tuple("abcdef")
    rows = Rows(bars(plot(labels, kept=(0, 2, 0, 0, 0, 0), dropped=(0, 0, 0, 1, 0, 0)))).rows
    assert [row["label"] for row in rows[1:]] == ["b", "c", "d"]
    assert rows[2]["bars"] == []
    assert len(Rows(bars(plot(kept=(0, 0)))).rows) == 1


def test_the_mix_shows_shares_beside_their_target():
    rows = Rows(bars(plot(("a", "b", "c"), (3, 1, 0), (0, 0, 0), (0.5, 0.25, 0.25)))).rows
    assert rows[0]["figures"] == ["Shards", "Target"]
    assert [row["figures"] for row in rows[1:]] == [["75 %", "50 %"], ["25 %", "25 %"], ["0 %", "25 %"]]
    assert rows[1]["bars"] == [("kept", 0, 100), ("target", 66.67, 1)]
    assert [kind for kind, *_ in rows[3]["bars"]] == ["target"]


def test_a_funnel_has_its_steps_tests_and_numbers():
    steps = [
        {"step": "scored", "clips": 8, "hours": 1.5},
        {"step": "quarantine", "clips": 8, "hours": 1.5, "dropped": 0},
        {"step": "length", "clips": 2, "hours": 0.02, "dropped": 6, "test": "duration_s >= 2"},
        {"step": "aesthetic", "clips": 2, "hours": 0.02, "dropped": 0, "test": "aesthetic >= 3.5"},
        {"step": "duplicate", "clips": 0, "hours": 0.0, "dropped": 2},
    ]
    rows = Rows(funnel(steps, idle=["aesthetic"])).rows
    assert [row["figures"] for row in rows[1:]] == [
        ["8", "–", "90.0 min"],
        ["8", "–", "90.0 min"],
        ["2", "6", "72.0 s"],
        ["2", "–", "72.0 s"],
        ["0", "2", "0.0 s"],
    ]
    assert rows[3]["bars"] == [("kept", 0, 25), ("dropped", 25, 75)]
    assert rows[3]["label"] == "lengthduration_s >= 2"
    assert "no clip has a value" in rows[4]["label"]
    assert "no clip has a value" not in rows[3]["label"]
    assert rows[5]["bars"] == [("dropped", 0, 25)]
    assert [row["bars"] for row in Rows(funnel([{"step": "scored", "clips": 0, "hours": 0.0}])).rows] == [[], []]
    assert len(Rows(funnel([])).rows) == 1


def test_words_are_text_whatever_is_in_them():
    evil = '<script>alert("1")</script>&amp;'
    text = bars(plot((evil, "b"), title=evil), note=evil)
    text += funnel([{"step": evil, "clips": 1, "hours": 0.0, "test": f"video_type == {evil}"}])
    found = Rows(text)
    assert "script" not in found.tags
    assert found.rows[1]["label"] == evil
    assert found.rows[3]["label"] == f"{evil}video_type == {evil}"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (12.34, "12.3 s"), (99.9, "99.9 s"), (100, "1.7 min"), (5969, "99.5 min"), (7200, "2.0 h")],
)
def test_a_length_is_in_its_fitting_unit(seconds, said):
    assert length(seconds) == said


def test_a_length_of_many_hours_keeps_them():
    assert length(3600 * 12345.67) == "12,345.7 h"


def test_only_numbers_of_many_decimals_are_rounded():
    assert rounded("static, 0.0006051249802112579") == "static, 0.0006051"
    assert rounded("-1.3599999999999999") == "-1.36"
    assert rounded("3.143144931527786e-05") == "3.143e-05"
    for kept in ("0.12", "17", "v1.2.3456", "a1.23456", "1.23456b", "2024"):
        assert rounded(kept) == kept
