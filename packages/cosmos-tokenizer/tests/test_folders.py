"""Folders of clips as TokenBench and DAVIS have them."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.folders import find_clips, open_clip
from cosmos_tokenizer.images import read_image, write_image


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def _found(*arguments: str) -> list[str]:
    return [str(path) for path in find_clips(arguments).files]


def _davis(resolutions: tuple[str, ...], root: str = "DAVIS") -> None:
    for resolution in resolutions:
        for sequence in ("swan", "bear"):
            _touch(*(f"{root}/JPEGImages/{resolution}/{sequence}/{n:05}.jpg" for n in range(3)))
            _touch(f"{root}/Annotations/{resolution}/{sequence}/00000.png")
    _touch(f"{root}/ImageSets/480p/val.txt", f"{root}/JPEGImages/.DS_Store")


def test_a_folder_of_sources_gives_the_clips_of_each() -> None:
    _touch("tb/bdd_100/b.mp4", "tb/bdd_100/a.mp4", "tb/panda/c.mp4", "tb/panda/c.json", "tb/.git/x.mp4", "tb/list.txt")
    _touch("tb/panda/deep/d.mp4", "tb/panda/._c.mp4")
    inputs = find_clips(["tb"])
    assert [str(path) for path in inputs.files] == ["tb/bdd_100/a.mp4", "tb/bdd_100/b.mp4", "tb/panda/c.mp4"]
    assert inputs.several
    _touch("tb/flat.mp4")  # as TokenBench's preprocessing leaves it
    assert _found("tb") == ["tb/flat.mp4"]


def test_a_list_takes_the_clips_that_it_names_in_its_order(place: Path) -> None:
    _touch("tb/bdd_100/a-1.mp4", "tb/bdd_100/b.mp4", "tb/ego/take_1/cam01.mp4", "tb/bridge/traj/images0/im_0.jpg")
    names = ["# a licence", "### BDD100K", "b.mov", " a-1.mov  # the first", "", "take_1/cam01.mp4", "traj/images0"]
    Path("tb/list.txt").write_text("\r\n".join(names), newline="")
    expected = ["bdd_100/b.mp4", "bdd_100/a-1.mp4", "ego/take_1/cam01.mp4", "bridge/traj/images0"]
    assert _found("tb/list.txt") == [f"tb/{name}" for name in expected]
    os.chdir("tb")
    assert _found("list.txt") == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a.mp4\nb.mp4\nc.mp4\n", "2 of its 3 clips are not beside it.*the first of them b.mp4"),
        (b"a.mp4\n" + b"x" * 5000, "1 of its 2 clips"),
        (b"# nothing\n", "names no clip"),
        (b"\xff\xfe\x00", "is not text"),
    ],
)
def test_a_list_that_cannot_be_followed_is_one_line(content: bytes, words: str) -> None:
    _touch("a.mp4")
    Path("list.txt").write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        find_clips(["list.txt"])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("resolutions", "taken"),
    [(("480p", "1080p"), "1080p"), (("480p", "Full-Resolution"), "Full-Resolution"), (("480p",), "480p")],
)
def test_davis_gives_its_sequences_at_the_paper_s_resolution(resolutions: tuple[str, ...], taken: str) -> None:
    _davis(resolutions)
    expected = [f"DAVIS/JPEGImages/{taken}/bear", f"DAVIS/JPEGImages/{taken}/swan"]
    assert _found("DAVIS") == _found("DAVIS/JPEGImages") == expected
    assert _found("DAVIS/JPEGImages/480p") == ["DAVIS/JPEGImages/480p/bear", "DAVIS/JPEGImages/480p/swan"]


def test_one_sequence_of_davis_is_one_clip() -> None:
    _davis(("480p",))
    inputs = find_clips(["DAVIS/JPEGImages/480p/swan"])
    assert [str(path) for path in inputs.files] == ["DAVIS/JPEGImages/480p/swan"]
    assert not inputs.several
    os.chdir("DAVIS/JPEGImages/480p")
    assert _found(".") == ["bear", "swan"]
    _touch("../seq/00000.jpg")  # sequences without a resolution
    assert _found("../seq") == ["../seq"]


def test_folders_of_pictures_elsewhere_are_pictures() -> None:
    _touch("val/n01/b.JPEG", "val/n02/a.jpg", "flat/a.png", "flat/b.png")
    assert _found("val") == ["val/n01/b.JPEG", "val/n02/a.jpg"]
    assert _found("flat") == ["flat/a.png", "flat/b.png"]


def test_files_globs_and_missing_names_are_as_for_the_other_commands() -> None:
    _touch("in/a.mp4", "in/b.png", "notes.md")
    assert _found("in/*.mp4") == ["in/a.mp4"]
    assert _found("in/b.png", "in", "in/b.png") == ["in/b.png", "in/a.mp4"]
    Path("empty/deeper").mkdir(parents=True)
    for argument, words in {"empty": "nor do the folders in it", "no.mp4": "no such file", "*.x": "no file"}.items():
        with pytest.raises(InputError, match=words):
            find_clips([argument])
    Path("DAVIS/JPEGImages").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no folders of frames"):
        find_clips(["DAVIS"])


def test_a_sequence_is_read_in_the_order_of_its_numbers(gradients: Callable[..., np.ndarray]) -> None:
    frames = gradients(12, 18, 26, step=40)
    Path("seq").mkdir()
    for index, frame in enumerate(frames):
        write_image(f"seq/im_{index + 3}.png", frame)  # without leading zeros, not from zero on
    _touch("seq/notes.txt")
    with open_clip("seq") as footage:
        assert (footage.size, footage.rate, footage.announced) == ((18, 26), Fraction(24), 12)
        assert np.array_equal(np.stack(list(footage.frames)), frames)


def test_a_file_is_opened_as_it_is(gradients: Callable[..., np.ndarray]) -> None:
    write_image("a.png", gradients(1, 18, 26)[0])
    with open_clip("a.png") as footage:
        assert footage.rate is None
        assert np.array_equal(next(footage.frames), read_image("a.png"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["00000", "00001", "00003"], "frame 2 is missing"),
        (["00000", "cover"], "cover.png: has no frame number"),
        (["a1", "b1"], "b1.png: has no frame number of its own"),
        ([], "is a folder without pictures"),
    ],
)
def test_a_broken_sequence_is_one_line(names: list[str], words: str, gradients: Callable[..., np.ndarray]) -> None:
    Path("seq").mkdir()
    for name in names:
        write_image(f"seq/{name}.png", gradients(1, 18, 26)[0])
    with pytest.raises(InputError, match=words), open_clip("seq"):
        pass


def test_a_change_of_size_within_a_sequence_is_named(gradients: Callable[..., np.ndarray]) -> None:
    Path("seq").mkdir()
    write_image("seq/00000.png", gradients(1, 18, 26)[0])
    write_image("seq/00001.png", gradients(1, 20, 26)[0])
    with open_clip("seq") as footage, pytest.raises(InputError, match=r"seq/00001.png: is 20x26 .* 18x26"):
        list(footage.frames)
