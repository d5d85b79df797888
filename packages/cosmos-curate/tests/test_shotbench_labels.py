"""Labels in the files that the four sets are shared in."""

import json
import os
import pickle

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.shotbench.labels import read_labels, shot_list, shot_pickle, shots_text
from cosmos_curate.shotbench.protocol import Transition

SHOTS = "0\t81\n106\t289\n290\t341\n"
TRANSITIONS = [Transition(81, 106), Transition(289, 290)]


@pytest.fixture
def folder(tmp_path):
    """Return the function that makes files by their paths and texts."""

    def make(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return make


def test_rai(folder):
    path = folder(a_dot_mp4="", labels__a_gt_dot_txt=SHOTS, b_dot_mp4="", c_gt_dot_txt=SHOTS)
    (one,) = read_labels("rai", path)
    assert (one.video.name, one.group, one.transitions) == ("a.mp4", "rai", TRANSITIONS)


def test_bbc_goes_by_the_number_of_the_episode(folder):
    path = folder(
        bbc_01_dot_mp4="",
        bbc_11_dot_mp4="",
        annotations__shots__01_From_Pole_to_Pole_dot_txt=SHOTS,
        annotations__shots__11_Deserts_dot_txt="0 5\n6 9\n",
        annotations__scenes__annotator_0__01_From_Pole_to_Pole_dot_txt="1,5,9",
    )
    one, other = read_labels("bbc", path)
    assert one.transitions == TRANSITIONS
    assert other.transitions == [Transition(5, 6)]


def test_shot_as_one_text(folder):
    text = "1.mp4 1499\n130,131\n1515,1519\n722,57\n\n2.mp4\n[73,82]\n251.252\n568,,569\n178,179,\n5,6\x0b8,9\n"
    path = folder(video_download__2_dot_mp4="", kuaishou_v2_dot_txt=text)
    wanted = [(5, 6), (8, 9), (73, 82), (178, 179), (251, 252), (568, 569)]
    assert shot_list(text) == {"1": [(130, 131), (1515, 1519)], "2": wanted}
    for given in (path, path / "kuaishou_v2.txt"):
        (one,) = read_labels("shot", given)
        assert (one.video.stem, one.transitions) == ("2", wanted)


def test_shot_as_pickled_arrays(folder):
    held = {"7": np.array([[0, 81], [106, 289], [290, 341]]), "8": np.array([[0, 5]])}
    path = folder(x__7_dot_mp4="", x__8_dot_mp4="", gt_scenes_dict_baseline_v2_dot_pickle=pickle.dumps(held, 4))
    one, other = read_labels("shot", path)
    assert (one.transitions, other.transitions) == (TRANSITIONS, [])


def test_shot_as_texts_of_shots(folder):
    (one,) = read_labels("shot", folder(a_dot_mp4="", a_dot_txt=SHOTS))
    assert one.transitions == TRANSITIONS


def test_a_pickle_that_would_run_something_is_refused():
    class Evil:
        def __reduce__(self):
            return os.system, ("exit 1",)

    with pytest.raises(InputError, match="not arrays alone"):
        shot_pickle(pickle.dumps({"7": Evil()}), "gt.pickle")


def test_clipshots_takes_midpoints(folder):
    text = json.dumps(
        {"a.mp4": {"transitions": [[311, 334], [0, 1]], "frame_num": 400.0}, "b.mp4": {"transitions": []}}
    )
    path = folder(videos__a_dot_mp4="", annotations__test_dot_json=text)
    (one,) = read_labels("clipshots", path)
    assert one.transitions == [Transition(0, 1), Transition(322, 323)]


def test_shots_given_with_commas_or_points():
    assert shots_text("0, 81\n\n106.0 289\n290 341", "x") == TRANSITIONS


@pytest.mark.parametrize(
    ("kind", "files", "said"),
    [
        ("cuts", {"a_dot_mp4": ""}, "choose one of"),
        ("rai", {"a_dot_mp4": ""}, "no video below"),
        ("rai", {"a_dot_mp4": "", "a_dot_txt": "0 1 2\n"}, "no list of shots"),
        ("bbc", {"bbc_01_dot_mp4": "", "01_dot_txt": "first last"}, "no list of shots"),
        ("clipshots", {"a_dot_mp4": "", "t_dot_json": "[]"}, "no JSON of transitions"),
        ("clipshots", {"a_dot_mp4": "", "t_dot_json": "{"}, "no JSON of transitions"),
        ("shot", {"a_dot_mp4": "", "gt_scenes_dict_dot_pickle": "nothing"}, "no pickle of shots"),
    ],
)
def test_labels_that_cannot_be_read_are_named(kind, files, said, folder):
    with pytest.raises(InputError, match=said):
        read_labels(kind, folder(**files))
    with pytest.raises(InputError, match="no labels at" if kind != "cuts" else "choose"):
        read_labels(kind, folder() / "nowhere")
