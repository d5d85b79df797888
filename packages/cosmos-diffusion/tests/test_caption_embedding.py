"""Captions of a folder to embeddings: read from either form, resumed, and whole or not there at all."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cosmos_diffusion.caption_embedding import embed_captions
from cosmos_diffusion.captions import read_captions
from cosmos_diffusion.embedding_files import read_embedding
from cosmos_tokenizer import InputError


class Letters:
    """Counts what it encodes; breaks off where it is told to."""

    width, length = 3, 9

    def __init__(self, breaks_at: str = "") -> None:
        self.seen: list[str] = []
        self.breaks_at = breaks_at

    def encode(self, prompts: Sequence[str], /) -> Tensor:
        text = torch.zeros(len(prompts), self.length, self.width)
        for row, prompt in zip(text, prompts, strict=True):
            if prompt == self.breaks_at:
                raise KeyboardInterrupt
            self.seen.append(prompt)
            row[: len(prompt)] = torch.tensor([[ord(letter)] * 3 for letter in prompt])
        return text


CAPTIONS = {"b": "falls", "a": "a", "c": "rolling"}


def test_each_caption_has_its_file_without_padding(tmp_path: Path) -> None:
    encoder = Letters()
    done = embed_captions(CAPTIONS, tmp_path / "out", encoder, name="letters", batch=2)
    assert (done.written, done.kept) == (3, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{name}.safetensors" for name in "abc"]
    for name, caption in CAPTIONS.items():
        found = read_embedding(tmp_path / "out" / f"{name}.safetensors")
        assert (found.prompt, found.encoder) == (caption, "letters")
        assert found.text.tolist() == [[ord(letter)] * 3 for letter in caption]


def test_a_broken_run_is_finished_by_the_next(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed_captions(CAPTIONS, tmp_path, Letters(breaks_at="falls"), name="letters", batch=1)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]
    encoder = Letters()
    done = embed_captions(CAPTIONS, tmp_path, encoder, name="letters", batch=1)
    assert (done.written, done.kept) == (2, 1)
    assert encoder.seen == ["falls", "a"]


def test_what_changed_or_is_damaged_is_made_anew(tmp_path: Path) -> None:
    embed_captions(CAPTIONS, tmp_path, Letters(), name="letters")
    path = tmp_path / "b.safetensors"
    text = read_embedding(path).text.clone()  # it is mapped from the file
    path.write_bytes(path.read_bytes()[:-2])
    encoder = Letters()
    embed_captions(CAPTIONS | {"a": "ab"}, tmp_path, encoder, name="letters")
    assert encoder.seen == ["falls", "ab"]
    assert torch.equal(read_embedding(path).text, text)
    again = Letters()
    assert embed_captions(CAPTIONS, tmp_path, again, name="other letters").written == 3


def test_nothing_to_do_is_fine(tmp_path: Path) -> None:
    embed_captions(CAPTIONS, tmp_path, Letters(), name="letters")
    assert embed_captions(CAPTIONS, tmp_path, Letters(), name="letters").written == 0


def test_targets_that_cannot_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: is a file"):
        embed_captions(CAPTIONS, tmp_path / "file", Letters(), name="letters")
    with pytest.raises(InputError, match="batch is 0"):
        embed_captions(CAPTIONS, tmp_path / "out", Letters(), name="letters", batch=0)
    assert not (tmp_path / "out").exists()


def test_captions_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("\ufeffa ball\n\nrolls \n", "utf-8")
    (tmp_path / "two.txt").write_text("ein Würfel", "utf-8")
    (tmp_path / "two.mp4").write_bytes(b"")
    (tmp_path / ".hidden.txt").write_bytes(b"\xff")
    assert read_captions(tmp_path) == {"one": "a ball\n\nrolls", "two": "ein Würfel"}


def test_captions_of_json_lines(tmp_path: Path) -> None:
    lines = [{"name": "x", "caption": " a ball "}, {"id": 7, "prompt": "two\u2028boxes"}, {"text": "a seesaw"}]
    lines[0] |= {"text": "another", "id": 8}
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n", "utf-8")
    assert read_captions(path) == {"x": "a ball", "7": "two\u2028boxes", "000003": "a seesaw"}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("", "is empty"),
        ("{", "line 1: is not JSON"),
        ('{"caption": "a"}\n["caption"]', "line 2: is no JSON object"),
        ('{"caption": " "}', "line 1: has no caption"),
        ('{"caption": 3}', "line 1: has no caption"),
        ('{"name": "../x", "caption": "a"}', "line 1: no file can have the name '../x'"),
        ('{"name": "", "caption": "a"}', "line 1: no file can have the name ''"),
        (f'{{"name": "{"x" * 201}", "caption": "a"}}', "line 1: no file can have the name 'xxx"),
        ('{"name": "x", "caption": "a"}\n{"name": "x", "caption": "b"}', "line 2: the name 'x' stands there twice"),
    ],
)
def test_lines_that_hold_no_caption_are_named(tmp_path: Path, lines: str, says: str) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text(lines)
    with pytest.raises(InputError, match=says):
        read_captions(path)


def test_files_that_hold_no_caption_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_captions(tmp_path / "x")
    with pytest.raises(InputError, match="holds no captions"):
        read_captions(tmp_path)
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(InputError, match=r"a\.txt: is empty"):
        read_captions(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_captions(tmp_path)
