"""Decisions on a scored manifest: order of rules, duplicates that pass, ranks of what is left, mix, and their sums."""

import numpy as np
import pytest

from cosmos_curate.content.mix import MixConfig
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.incremental import load_index
from cosmos_curate.manifest import to_table
from cosmos_curate.rules import Rule
from cosmos_curate.selection import SelectConfig, decide

LENGTH = Rule(name="length", test="duration_s >= 2")
QUALITY = Rule(name="quality", test="percentile(quality) >= 0.3")


def clip(number, **changes):
    row = {
        "clip_id": f"{number:032x}",
        "source": f"{number:04}.mp4",
        "source_sha256": f"{number:064x}",
        "start_s": 0.5,
        "end_s": 4.5,
        "duration_s": 4.0,
        "width": 1280,
        "height": 720,
        "bytes": 1000 + number,
        "sha256": f"{number:064x}",
        "quality": 50.0 + number,
        "video_type": "driving",
    }
    return row | changes


def apart(count, seed=0):
    """Embeddings that are no copies of one another."""
    rows = np.random.default_rng(seed).normal(size=(count, 64))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def decided(rows, vectors, **config):
    table = to_table(rows)
    ids = [row["clip_id"] for row in rows]
    decision = decide(table, dict(zip(ids, vectors, strict=True)), SelectConfig(**config))
    return {
        name: dict(zip(table["clip_id"].to_pylist(), values, strict=True)) for name, values in decision.columns.items()
    }, decision


def test_first_failure_counts_and_the_funnel_adds_up():
    rows = [clip(0, duration_s=1.0, quality=0.0), clip(1, quarantine="shots: no frame"), *map(clip, range(2, 12))]
    columns, decision = decided(rows, apart(12), rules=(QUALITY, LENGTH))
    rule = {int(name, 16): value for name, value in columns["drop_rule"].items()}
    assert rule[0] == "length"
    assert rule[1] == "quarantine"
    assert [number for number, name in rule.items() if name == "quality"] == [2, 3, 4]
    assert [step["step"] for step in decision.funnel] == ["scored", "quarantine", "length", "duplicate", "quality"]
    for before, after in zip(decision.funnel, decision.funnel[1:], strict=False):
        assert before["clips"] - after["dropped"] == after["clips"]
    assert decision.funnel[-1]["clips"] == sum(columns["keep"].values()) == 7
    assert decision.funnel[-1]["hours"] == pytest.approx(7 * 4 / 3600)


def test_copies_are_marked_even_of_dropped_clips_and_a_passing_one_is_kept():
    vectors = apart(3)
    near = vectors[[0]]
    large = clip(7, width=3840, height=2160, duration_s=1.0)
    columns, _ = decided([*map(clip, range(3)), large], np.concatenate([vectors, near]), rules=(LENGTH,))
    assert columns["drop_rule"][large["clip_id"]] == "length"
    assert columns["dup_of"][large["clip_id"]] == clip(0)["clip_id"]
    assert columns["keep"][clip(0)["clip_id"]]
    larger = large | {"duration_s": 4.0}
    columns, _ = decided([*map(clip, range(3)), larger], np.concatenate([vectors, near]), rules=(LENGTH,))
    assert columns["dup_of"][clip(0)["clip_id"]] == larger["clip_id"]
    assert columns["dup_similarity"][clip(0)["clip_id"]] == pytest.approx(1, abs=1e-3)
    assert columns["drop_rule"][clip(0)["clip_id"]] == "duplicate"


def test_ranks_are_of_what_duplicates_left():
    vectors = apart(5)
    rows = [*map(clip, range(5)), *(clip(10 + n, quality=1.0, width=640, height=360) for n in range(5))]
    columns, _ = decided(rows, np.concatenate([vectors, vectors]), rules=(QUALITY,))
    assert sum(rule == "duplicate" for rule in columns["drop_rule"].values()) == 5
    assert [name for name, rule in columns["drop_rule"].items() if rule == "quality"] == [clip(0)["clip_id"]]


def test_files_of_equal_bytes_are_duplicates_even_without_deduplication():
    copy = clip(5, source="0000 copy.mp4", source_sha256=clip(0)["source_sha256"])
    columns, decision = decided([clip(0), clip(1), copy], apart(3), rules=(), dedup=None)
    assert columns["dup_of"] == {clip(0)["clip_id"]: copy["clip_id"], clip(1)["clip_id"]: None, copy["clip_id"]: None}
    assert "dedup" not in decision.report


def test_unusable_files_of_equal_bytes_are_no_copies_of_one_another():
    bad = {"quarantine": "no video", "start_s": None, "end_s": None, "duration_s": None, "source_sha256": "ab"}
    columns, _ = decided([clip(0, **bad), clip(1, **bad)], apart(2))
    assert set(columns["dup_of"].values()) == {None}


@pytest.mark.parametrize(
    ("better", "worse"), [({"bytes": 2000}, {"bytes": 1000}), ({"quality": 60.0}, {"quality": 5.0})]
)
def test_of_copies_of_one_size_the_one_with_more_bytes_then_quality_stays(better, worse):
    vectors = np.repeat(apart(1), 2, axis=0)
    for rows in ([clip(0), clip(1)], [clip(1), clip(0)]):
        one, other = rows[0] | {"bytes": 1500} | better, rows[1] | {"bytes": 1500} | worse
        columns, _ = decided([one, other], vectors, rules=())
        assert columns["dup_of"] == {one["clip_id"]: None, other["clip_id"]: one["clip_id"]}


def test_rules_that_rank_come_one_behind_another():
    rows = [clip(n, motion=float(n)) for n in range(10)]
    lively = Rule(name="lively", test="percentile(motion) >= 0.3")
    columns, decision = decided(rows, apart(10), rules=(QUALITY, lively))
    assert [step["step"] for step in decision.funnel][-2:] == ["quality", "lively"]
    rule = {int(name, 16): value for name, value in columns["drop_rule"].items()}
    assert [rule[n] for n in range(6)] == ["quality"] * 3 + ["lively"] * 2 + [None]


def test_mix_repeats_and_leaves_out():
    rows = [clip(n, video_type="driving" if n < 18 else "human motion and activity") for n in range(20)]
    target = {"driving": 0.5, "human motion and activity": 0.5}
    columns, decision = decided(rows, apart(20), rules=(), mix=MixConfig(target=target, size=12))
    kinds = {row["clip_id"]: row["video_type"] for row in rows}
    used = {kind: sum(columns["repeats"][name] for name in kinds if kinds[name] == kind) for kind in target}
    assert used == {"driving": 6, "human motion and activity": 6}
    assert sum(rule == "mix" for rule in columns["drop_rule"].values()) == 12
    assert all(columns["keep"][name] == (columns["repeats"][name] > 0) for name in kinds)
    assert decision.funnel[-1]["step"] == "mix"


def test_decisions_do_not_depend_on_order():
    rng = np.random.default_rng(3)
    vectors = apart(6)
    rows = [clip(n, quality=float(rng.normal()), duration_s=float(rng.uniform(1, 6))) for n in range(30)]
    near = vectors[rng.integers(0, 6, 30)]
    one, first = decided(rows, near, rules=(LENGTH, QUALITY))
    order = rng.permutation(30)
    other, second = decided([rows[n] for n in order], near[order], rules=(LENGTH, QUALITY))
    assert one == other
    assert first.funnel == second.funnel


def test_where_clusters_were_made_the_index_is_given(tmp_path):
    rows, vectors = list(map(clip, range(60))), apart(60)
    _, decision = decided(rows, vectors, rules=())
    assert decision.index is None
    _, decision = decided(rows, vectors, rules=(), dedup=DedupConfig(exact_below=10, clusters=4))
    assert decision.index is not None
    assert set(load_index(decision.index).ids) == {row["clip_id"] for row in rows}


def test_nothing_at_all_and_nothing_usable():
    columns, decision = decided([], apart(0))
    assert columns["keep"] == {}
    columns, decision = decided([clip(0, quarantine="no video", duration_s=None)], apart(1))
    assert list(columns["drop_rule"].values()) == ["quarantine"]
    assert decision.funnel[-1]["clips"] == 0
