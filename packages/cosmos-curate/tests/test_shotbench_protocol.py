"""Matching of findings to transitions as the comparison does it."""

import numpy as np
import pytest

from cosmos_curate.shotbench.protocol import Score, Transition, findings, score
from cosmos_curate.shots.shot import Shot


def test_findings_of_touching_and_of_separated_shots():
    assert findings([Shot(0, 10), Shot(10, 20), Shot(25, 30)]) == [Transition(10, 10), Transition(20, 25)]
    assert findings([Shot(0, 10)]) == []


@pytest.mark.parametrize(("off", "hit"), [(-3, 0), (-2, 1), (-1, 1), (0, 1), (1, 1), (2, 1), (3, 0)])
def test_two_frames_of_tolerance_for_what_networks_mark(off, hit):
    found = findings([Shot(0, 50 + off), Shot(51 + off, 100)])
    assert score([Transition(50, 51)], found) == Score(hits=hit, false=1 - hit, missed=1 - hit)


@pytest.mark.parametrize(("off", "hit"), [(-3, 0), (-2, 1), (0, 1), (1, 1), (2, 0)])
def test_first_frame_of_a_shot_counts_as_the_comparison_counts_it(off, hit):
    found = findings([Shot(0, 51 + off), Shot(51 + off, 100)])
    assert score([Transition(50, 51)], found).hits == hit


def test_any_frame_of_a_gradual_transition_is_a_hit_and_only_one():
    truth = [Transition(100, 120)]
    assert score(truth, [Transition(110, 110)]) == Score(hits=1)
    assert score(truth, [Transition(104, 105), Transition(115, 116)]) == Score(hits=1, false=1)


def test_findings_hit_one_transition_each():
    truth = [Transition(10, 11), Transition(12, 13)]
    assert score(truth, [Transition(11, 12)]) == Score(hits=1, missed=1)


def test_nothing_found_and_nothing_to_find():
    assert score([], [Transition(1, 2)]) == Score(false=1)
    assert score([Transition(1, 2)], []) == Score(missed=1)
    assert (Score().f1, Score().precision, Score().recall) == (0, 0, 0)


def test_shares():
    total = Score(hits=6, false=2, missed=4)
    assert (total.precision, total.recall) == (0.75, 0.6)
    assert total.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert (Score(hits=1) + Score(false=2, missed=3)) == Score(hits=1, false=2, missed=3)


@pytest.mark.parametrize("seed", range(40))
def test_matching_is_the_published_walk_over_scenes(seed):
    rng = np.random.default_rng(seed)

    def scenes(gap):
        edges = np.unique(rng.integers(1, 300, int(rng.integers(1, 25))))
        gaps = rng.integers(0, gap, len(edges))
        firsts = np.concatenate([[0], edges + gaps])
        return [(int(a), int(b)) for a, b in zip(firsts, [*edges, 320], strict=True) if a <= b]

    truth, found = scenes(6), scenes(4)
    gt = [(a[1] - 0.5, b[0] + 0.5) for a, b in zip(truth[:-1], truth[1:], strict=True)]
    pred = [(a[1] - 0.5, b[0] + 0.5) for a, b in zip(found[:-1], found[1:], strict=True)]
    i = j = hits = 0
    while i < len(gt) and j < len(pred):
        if pred[j][1] < gt[i][0]:
            j += 1
        elif pred[j][0] > gt[i][1]:
            i += 1
        else:
            i, j, hits = i + 1, j + 1, hits + 1
    ours = score(
        [Transition(a[1], b[0]) for a, b in zip(truth[:-1], truth[1:], strict=True)],
        [Transition(a[1], b[0]) for a, b in zip(found[:-1], found[1:], strict=True)],
    )
    assert ours == Score(hits=hits, false=len(pred) - hits, missed=len(gt) - hits)
