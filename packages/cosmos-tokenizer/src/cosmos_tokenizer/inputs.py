"""What a command works on: files, globs and folders on one side, one output each on the other."""

import glob
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_tokenizer.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Existing files in order, and whether they came as several: from more than one argument, a glob or a folder."""

    files: tuple[Path, ...]
    several: bool


def find_inputs(arguments: Sequence[str], suffixes: Collection[str], what: str) -> Inputs:
    """Resolve files, quoted globs and folders; of a folder, the files that end in one of `suffixes`, not recursively.

    Raises:
        InputError: a file is missing, a glob matches nothing, or a folder holds no `what`.
    """
    files: list[Path] = []
    several = len(arguments) > 1
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
            if not found:
                raise InputError(f"{argument}: holds no {what}; name a folder that does, or a file")
            several = True
        elif path.exists():
            found = [path]
        elif glob.has_magic(argument):
            found = [p for p in map(Path, sorted(glob.glob(argument, recursive=True))) if p.is_file()]
            if not found:
                raise InputError(f"{argument}: matches no file; check the pattern")
            several = True
        else:
            raise InputError(f"{argument}: no such file; check the name")
        files += found
    return Inputs(files=tuple(dict.fromkeys(files)), several=several)


def plan_outputs(inputs: Inputs, output: str, suffix: Callable[[Path], str]) -> list[Path]:
    """Name one output for each input: `output` itself for a single one, and `output/STEM.SUFFIX` for several.

    Raises:
        InputError: `output` is a file and a folder is needed, two outputs share a name, or one is an input.
    """
    target = Path(output)
    if inputs.several or target.is_dir() or output.endswith(("/", "\\")):
        if target.exists() and not target.is_dir():
            raise InputError(f"{output}: is a file, and several inputs need a folder to write to")
        outputs = [target / (path.stem + suffix(path)) for path in inputs.files]
    else:
        outputs = [target]
    taken: dict[Path, Path] = {}
    sources = {path.resolve() for path in inputs.files}
    for path, made in zip(inputs.files, outputs, strict=True):
        if made in taken:
            raise InputError(f"{path}: would be written to {made}, as would {taken[made]}; rename one of them")
        if made.resolve() in sources:
            raise InputError(f"{made}: is an input; write the output elsewhere")
        taken[made] = path
    return outputs


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of `--size`.

    Raises:
        InputError: it is not two whole numbers with an x between them.
    """
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise InputError(f"--size is {text!r}: give height and width in pixels, as in 256x320")
    return int(height), int(width)
