"""Splices with exact truth, and the command over splices and labels."""

import argparse

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.media.reading import decode
from cosmos_curate.shotbench.bench import run_shotbench, shotbench
from cosmos_curate.shotbench.command import add_shotbench_arguments
from cosmos_curate.shotbench.splice import SPLICES, splice
from cosmos_curate.shots.stage import ShotConfig


@pytest.fixture(scope="module")
def footage(video, picture, tmp_path_factory):
    """Return two videos of 90 frames, slow pans over pictures of other colours; the second has a cut at frame 60."""
    folder = tmp_path_factory.mktemp("footage")
    warm, cool, dark = picture(144, 400, 1), picture(144, 400, 2), picture(144, 400, 3) // 4
    warm[..., 2] //= 3
    cool = np.minimum(cool.astype(int) + 60, 255).astype(np.uint8)
    one = np.stack([warm[:, i : i + 256] for i in range(90)])
    other = np.stack([(cool if i < 60 else dark)[:, i : i + 256] for i in range(90)])
    return [video(folder / "one.mp4", one), video(folder / "other.mp4", other)]


@pytest.fixture(scope="module")
def spliced(footage, tmp_path_factory):
    """Return the splices of that footage."""
    return splice(footage, tmp_path_factory.mktemp("splices"), count=3, seed=3)


def lumas(path):
    return np.stack([shown.picture.pixels((27, 48), gray=True)[..., 0] for shown in decode(path)]).astype(float)


def changes(path):
    return np.abs(np.diff(lumas(path), axis=0)).mean((1, 2))


def test_cuts_are_where_the_picture_changes_and_nowhere_else(spliced):
    cut = spliced[0]
    assert cut.group == "cut"
    assert [t.before for t in cut.transitions] == np.flatnonzero(changes(cut.video) > 12).tolist()
    assert all(t.after == t.before + 1 for t in cut.transitions)
    assert len(cut.transitions) == 3


def test_dissolves_change_between_their_ends_in_even_steps(spliced):
    x = lumas(spliced[1].video)
    assert len(spliced[1].transitions) == 3
    for before, after in spliced[1].transitions:
        assert 6 <= after - before - 1 <= 18
        way = (x[after] - x[before]).ravel()
        shares = [float((x[i] - x[before]).ravel() @ way / (way @ way)) for i in range(before, after + 1)]
        assert np.allclose(shares, np.linspace(0, 1, after - before + 1), atol=0.06)


def test_fades_go_through_black(spliced):
    x = lumas(spliced[2].video).mean((1, 2))
    for before, after in spliced[2].transitions:
        between = x[before : after + 1]
        assert between.min() < 0.25 * min(x[before], x[after])
        dark = int(between.argmin())
        assert np.all(np.diff(between[: dark + 1]) < 1.5)
        assert np.all(np.diff(between[dark:]) > -1.5)
        assert abs(x[before] - x[before - 1]) < 3
        assert abs(x[after] - x[after + 1]) < 3


def test_equal_seeds_give_equal_videos_and_others_others(footage, spliced, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    again.mkdir()
    other.mkdir()
    for one, two in zip(spliced, splice(footage, again, count=3, seed=3), strict=True):
        assert one.transitions == two.transitions
        assert one.video.read_bytes() == two.video.read_bytes()
    assert splice(footage, other, count=1, seed=4)[0].transitions != spliced[0].transitions[:1]


def test_footage_without_a_long_take_or_all_alike_is_refused(video, tmp_path):
    flicker = np.zeros((60, 32, 32, 3), np.uint8)
    flicker[::2] = 200
    with pytest.raises(InputError, match="without a cut"):
        splice([video(tmp_path / "flicker.mp4", flicker)], tmp_path)
    with pytest.raises(InputError, match="look alike"):
        splice([video(tmp_path / "gray.mp4", np.full((60, 32, 32, 3), 90, np.uint8))], tmp_path)
    with pytest.raises(InputError, match="at least one"):
        splice([], tmp_path)


def test_scores_by_detector_and_kind(spliced):
    scores = shotbench(spliced, [ShotConfig(detector="content", threshold=20.0), ShotConfig(detector="stride")])
    assert list(scores) == ["content", "stride"]
    assert set(scores["content"]) == {*SPLICES, "all"}
    assert scores["content"]["cut"].f1 == 1
    assert scores["stride"]["all"].f1 < 0.3
    assert scores["content"]["all"].hits + scores["content"]["all"].missed == 9


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_shotbench_arguments(parser)
    return parser.parse_args(words)


def test_command_over_footage(footage):
    lines = []
    args = parsed("--videos", str(footage[0].parent), "--detectors", "content", "--transitions", "1")
    report = run_shotbench(args, lines.append)
    assert report["transitions"] == dict.fromkeys(SPLICES, 1)
    assert report["scores"]["content"]["cut"]["f1"] == 1
    assert report["published_f1"]["rai"]["transnetv2"] == 0.919
    assert lines == ["splicing", "content: cut.mkv", "content: dissolve.mkv", "content: fade.mkv"]


def test_command_over_labels(footage):
    text = footage[1].with_suffix(".txt")
    text.write_text("0 59\n60 89\n")
    report = run_shotbench(parsed("--labels", "rai", str(text.parent), "--detectors", "content", "adaptive"))
    text.unlink()
    assert report["videos"] == 1
    for detector in ("content", "adaptive"):
        assert report["scores"][detector] == {
            "rai": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "hits": 1, "false": 0, "missed": 0}
        }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--videos", "nowhere.mp4"], "no video at"),
        (["--labels", "rai", "nowhere"], "no labels at"),
        (["--videos", "nowhere.mp4", "--detectors", "autoshot"], "give the path"),
    ],
)
def test_what_is_missing_is_named(words, said):
    with pytest.raises(InputError, match=said):
        run_shotbench(parsed(*words))
