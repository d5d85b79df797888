"""Which files a command works on, and where each result goes."""

import os
from pathlib import Path

import pytest

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.inputs import Inputs, find_inputs, plan_outputs

SUFFIXES = {".mp4", ".png"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.MP4", "notes.txt", ".hidden.mp4", "sub/c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _names(inputs: Inputs) -> list[str]:
    return [str(path) for path in inputs.files]


@pytest.mark.parametrize(
    ("arguments", "files", "several"),
    [
        (["in/b.mp4"], ["in/b.mp4"], False),
        (["in/notes.txt"], ["in/notes.txt"], False),
        (["in"], ["in/a.MP4", "in/b.mp4"], True),
        (["in/*.mp4"], ["in/b.mp4"], True),
        (["in/**/*.png"], ["in/sub/c.png"], True),
        (["in/b.mp4", "in/sub", "in/b.mp4"], ["in/b.mp4", "in/sub/c.png"], True),
    ],
)
def test_files_globs_and_folders_are_found_in_order(
    arguments: list[str], files: list[str], several: bool, folder: Path
) -> None:
    inputs = find_inputs(arguments, SUFFIXES, "clips")
    assert (_names(inputs), inputs.several) == (files, several)


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(folder: Path) -> None:
    (folder / "take[1].mp4").touch()
    assert _names(find_inputs(["take[1].mp4"], SUFFIXES, "clips")) == ["take[1].mp4"]


@pytest.mark.parametrize(
    ("argument", "word"), [("no.mp4", "no such file"), ("in/*.mov", "matches no file"), ("empty", "holds no clips")]
)
def test_what_is_not_there_is_named(argument: str, word: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=word):
        find_inputs([argument], SUFFIXES, "clips")


def _planned(arguments: list[str], output: str) -> list[str]:
    return [str(p) for p in plan_outputs(find_inputs(arguments, SUFFIXES, "clips"), output, lambda _: ".st")]


def test_one_file_goes_to_the_name_given_and_several_to_a_folder(folder: Path) -> None:
    assert _planned(["in/b.mp4"], "x/y.st") == ["x/y.st"]
    assert _planned(["in/b.mp4"], "new/") == ["new/b.st"]
    assert _planned(["in/b.mp4"], "in/sub") == ["in/sub/b.st"]
    assert _planned(["in"], "new") == ["new/a.st", "new/b.st"]
    assert not os.path.exists("new")


def test_outputs_that_collide_or_overwrite_an_input_are_refused(folder: Path) -> None:
    (folder / "b.png").touch()
    with pytest.raises(InputError, match="rename one"):
        _planned(["in/b.mp4", "b.png"], "out")
    with pytest.raises(InputError, match="need a folder"):
        _planned(["in"], "b.png")
    with pytest.raises(InputError, match="is an input"):
        _planned(["in/b.mp4"], "in/../in/b.mp4")
