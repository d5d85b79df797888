"""Captions to embed: a folder of text files, one a clip, or a file of JSON lines."""

import json
from collections.abc import Mapping
from pathlib import Path

from cosmos_tokenizer import InputError

_TEXT = ("caption", "prompt", "text")
_NAME = ("name", "id")
_LONGEST = 200  # letters of a name: with a suffix, what every file system takes


def read_captions(source: str | Path) -> Mapping[str, str]:
    """Caption of each name, which is that of its clip.

    Args:
        source: a folder with `NAME.txt` of one caption each; or a file of JSON lines, objects with the caption under
            "caption", "prompt" or "text" and the name under "name" or "id" (without one, the number of the line).

    Raises:
        InputError: there is no such thing or nothing in it, or a caption or a name is missing, empty, given twice, or
            not one that a file can have.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix == ".txt" and not p.name.startswith("."))
        if not files:
            raise InputError(f"{path}: holds no captions; name a folder of .txt files, or a file of JSON lines")
        return {file.stem: caption_of(file) for file in files}
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; name a folder of .txt files, or a file of JSON lines")
    captions: dict[str, str] = {}
    # Not splitlines: JSON may hold line separators of other kinds as they are.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, caption = _of_line(line, number, f"{path}, line {number}")
        if name in captions:
            raise InputError(f"{path}, line {number}: the name {name[:60]!r} stands there twice; give each its own")
        captions[name] = caption
    if not captions:
        raise InputError(f"{path}: is empty; give a JSON object with a caption on each line")
    return captions


def caption_of(path: Path) -> str:
    """The caption in a text file.

    Raises:
        InputError: there is none.
    """
    caption = _text(path).strip()
    if not caption:
        raise InputError(f"{path}: is empty; write a caption into it, or remove it")
    return caption


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; convert it first") from error


def _of_line(line: str, number: int, where: str) -> tuple[str, str]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON; give one object a line, or a folder of .txt files") from error
    if not isinstance(fields, dict):
        raise InputError(f"{where}: is no JSON object; give one with a caption")
    caption = next((fields[key] for key in _TEXT if key in fields), None)
    if not isinstance(caption, str) or not caption.strip():
        raise InputError(f'{where}: has no caption; give it under "caption"')
    name = str(next((fields[key] for key in _NAME if key in fields), f"{number:06}"))
    if (
        not name
        or len(name) > _LONGEST
        or name.startswith(".")
        or not name.isprintable()
        or set(name) & set('/\\:*?"<>|')
    ):
        raise InputError(f"{where}: no file can have the name {name[:60]!r}; use letters, digits, dashes and dots")
    return name, caption.strip()
