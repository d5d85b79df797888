"""PySceneDetect's detectors, Panda-70M's splitting and fixed stride, and the stage around them."""

import numpy as np
import pytest

from cosmos_curate import InputError, Unusable
from cosmos_curate.media.reading import decode
from cosmos_curate.shots.content import adaptive_detector, content_detector
from cosmos_curate.shots.panda import Distances, looked_at, panda_detector, pieces, stitched
from cosmos_curate.shots.shot import Shot
from cosmos_curate.shots.stage import ShotConfig, shots_stage
from cosmos_curate.shots.stride import stride_detector
from cosmos_curate.stage import Item, check_stage


@pytest.fixture(scope="module")
def film(video, picture, tmp_path_factory):
    """Return a video of 90 frames with cuts at 30 and 65, shown at uneven times."""
    pictures = [picture(120, 300, seed) // (seed % 2 + 1) for seed in (1, 2, 3)]
    frames = np.stack([pictures[(i >= 30) + (i >= 65)][:, i : i + 200] for i in range(90)])
    times = np.round(np.cumsum(np.random.default_rng(0).choice([0.02, 0.04, 0.1], 90)), 4) + 1
    path = video(tmp_path_factory.mktemp("film") / "film.mp4", frames, times_s=times)
    return path, times


@pytest.mark.parametrize("make", [content_detector, adaptive_detector])
def test_cuts_are_those_that_pyscenedetect_finds_by_itself(make, film):
    import scenedetect

    one = {
        content_detector: scenedetect.ContentDetector(threshold=25),
        adaptive_detector: scenedetect.AdaptiveDetector(),
    }
    stream = scenedetect.open_video(str(film[0]), backend="pyav")
    manager = scenedetect.SceneManager()
    manager.add_detector(one[make])
    manager.detect_scenes(stream)
    assert len(manager.get_scene_list()) == 3
    assert make()(lambda: decode(film[0])) == [Shot(0, 30), Shot(30, 65), Shot(65, 90)]


def test_threshold_decides(film):
    assert content_detector(250.0)(lambda: decode(film[0])) == [Shot(0, 90)]


def test_stage_writes_the_times_that_frames_are_shown_at(film):
    path, times = film
    out = shots_stage(ShotConfig(detector="content")).open()(Item(id="film", path=str(path)), {})
    assert out["shots"] == [{"first": 0, "end": 30}, {"first": 30, "end": 65}, {"first": 65, "end": 90}]
    assert out["frame_times_s"].dtype == np.float64
    assert np.allclose(out["frame_times_s"][:-1], times, atol=1e-4)
    assert len(out["frame_times_s"]) == 91
    assert out["frame_times_s"][-1] > times[-1]


@pytest.mark.parametrize("detector", ["content", "adaptive", "stride"])
def test_stages_keep_their_word(detector, film):
    check_stage(shots_stage(ShotConfig(detector=detector)), Item(id="film", path=str(film[0])), {})


@pytest.mark.parametrize("detector", ["content", "adaptive", "stride"])
def test_one_tiny_frame_is_one_shot(detector, video, tmp_path):
    path = video(tmp_path / "one.mp4", np.full((1, 16, 16, 3), 90, np.uint8))
    out = shots_stage(ShotConfig(detector=detector)).open()(Item(id="one", path=str(path)), {})
    assert out["shots"] == [{"first": 0, "end": 1}]
    assert np.diff(out["frame_times_s"])[0] > 0


def test_what_is_no_video_is_unusable(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(Unusable):
        shots_stage(ShotConfig(detector="stride")).open()(Item(id="text", path=str(path)), {})


def test_stride_is_counted_in_seconds(film):
    path, times = film
    found = stride_detector(1.0)(lambda: decode(path))
    assert [shot.first for shot in found[1:]] == [shot.end for shot in found[:-1]]
    assert (found[0].first, found[-1].end) == (0, 90)
    wanted = np.floor(times - times[0] + 0.0005).astype(int)
    for number, (first, end) in enumerate(found):
        assert set(wanted[first:end]) == {number}


def test_keys_tell_settings_apart(tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"1")
    configs = [
        ShotConfig(),
        ShotConfig(threshold=0.5),
        ShotConfig(weights=str(weights)),
        ShotConfig(detector="content"),
        ShotConfig(detector="adaptive"),
        ShotConfig(detector="panda"),
        ShotConfig(detector="stride"),
        ShotConfig(detector="stride", stride_s=5.0),
    ]
    assert len({shots_stage(c).key("video") for c in configs}) == len(configs)
    assert shots_stage(ShotConfig(threshold=0.4)).key("video") == shots_stage(ShotConfig()).key("video")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"detector": "guess"}, "choose one of"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"threshold": float("nan")}, "threshold"),
        ({"detector": "content", "threshold": 0.0}, "between 0 and 256"),
        ({"detector": "stride", "threshold": 0.4}, "takes none"),
        ({"detector": "content", "weights": "a.pth"}, "takes none"),
        ({"weights": "nowhere.pth"}, "no such file"),
        ({"detector": "stride", "stride_s": 0.0}, "above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        ShotConfig(**wrong)


def test_pieces_are_of_five_seconds_until_seven_or_less_remain():
    times = np.arange(400) / 10
    assert pieces([Shot(0, 70), Shot(70, 400)], times) == [
        Shot(0, 70),
        *(Shot(70 + 50 * i, 120 + 50 * i) for i in range(6)),
        Shot(370, 400),
    ]


def test_frames_far_apart_make_pieces_all_the_same():
    assert pieces([Shot(0, 3)], np.array([0.0, 10.0, 20.0])) == [Shot(0, 1), Shot(1, 2), Shot(2, 3)]


def test_two_frames_stand_for_a_piece():
    assert looked_at(Shot(100, 201)) == (105, 195)
    assert looked_at(Shot(5, 6)) == (5, 5)


def test_pieces_that_meet_alike_are_stitched_and_transitions_left_out():
    a, b = np.eye(2, dtype=np.float32)
    cut = [Shot(0, 10), Shot(10, 20), Shot(20, 30), Shot(30, 40), Shot(40, 50)]
    features = np.stack([[a, a], [a, a], [a, b], [b, b], [a, a]])
    assert stitched(cut, features) == [Shot(0, 20), Shot(30, 40), Shot(40, 50)]
    assert stitched(cut, features, Distances(stitch=2.0, transition=2.0)) == [Shot(0, 50)]
    assert stitched(cut, features, Distances(stitch=0.0, transition=2.0)) == [Shot(0, 30 + 10), Shot(40, 50)]


def test_cut_and_stitch_over_a_video(film):
    seen = []

    def bright(frames):
        seen.append(frames.shape)
        mean = frames.mean((1, 2, 3))
        return np.stack([mean, 255 - mean], 1).astype(np.float32)

    def same(frames):
        return np.ones((len(frames), 3), np.float32)

    def reading():
        return decode(film[0])

    assert panda_detector(25.0, same)(reading) == [Shot(0, 90)]
    apart = panda_detector(25.0, bright, Distances(stitch=0.1))(reading)
    assert apart == [Shot(0, 30), Shot(30, 65), Shot(65, 90)]
    assert sum(shape[0] for shape in seen) == 6
    assert {shape[1:] for shape in seen} == {(224, 224, 3)}
