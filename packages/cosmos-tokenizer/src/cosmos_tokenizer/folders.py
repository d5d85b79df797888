"""Folders of clips as benchmarks come: TokenBench (a folder a source, or a list of names) and DAVIS (frames as JPEG).

A picture sequence is one clip. Its files do not say a frame rate; 24 frames per second are assumed, as in DAVIS.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.images import IMAGE_SUFFIXES, read_image
from cosmos_tokenizer.inputs import Inputs, find_inputs
from cosmos_tokenizer.media import open_media
from cosmos_tokenizer.video import VIDEO_SUFFIXES, Footage

RATE = Fraction(24)
"""Frames per second of a picture sequence."""

_MEDIA = VIDEO_SUFFIXES | IMAGE_SUFFIXES
_RESOLUTIONS = ("1080p", "Full-Resolution", "480p")
_WHAT = "videos or pictures"


def find_clips(arguments: Sequence[str]) -> Inputs:
    """Resolve files, quoted globs and folders as `find_inputs` does, and the layouts of benchmarks.

    - DAVIS: its folder (of several resolutions 1080p is taken, else Full-Resolution, else 480p), `JPEGImages`, one
      resolution in it, or one sequence. Each sequence is a clip, named by its folder.
    - A folder that holds no clip itself: those of the folders in it, one level deep, as TokenBench has its sources.
    - A `.txt` file: clips by name, one a line, relative to the list's folder or to a folder in it. A video's suffix may
      differ (TokenBench turns .mov into .mp4), a folder is a picture sequence, and what follows # is no name.

    Raises:
        InputError: as for `find_inputs`; or a list names what is not there.
    """
    files: list[Path] = []
    several = len(arguments) > 1
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found, many = _of_folder(path)
        elif path.suffix.lower() == ".txt" and path.is_file():
            found, many = _of_list(path), True
        else:
            inputs = find_inputs([argument], _MEDIA, _WHAT)
            found, many = list(inputs.files), inputs.several
        files += found
        several |= many
    return Inputs(files=tuple(dict.fromkeys(files)), several=several)


@contextmanager
def open_clip(path: Path | str) -> Iterator[Footage]:
    """Open a picture sequence where `path` is a folder, and anything else as `open_media` does.

    Raises:
        InputError: as for `open_media`; or the folder holds no pictures, or not all of the numbers from first to last.
            A change of size is told when the frames are read.
    """
    if not Path(path).is_dir():
        with open_media(path) as footage:
            yield footage
        return
    pictures = _sequence(Path(path))
    size = read_image(pictures[0]).shape[:2]
    yield Footage(frames=_frames(pictures, size), size=(size[0], size[1]), rate=RATE, announced=len(pictures))


def _of_folder(path: Path) -> tuple[list[Path], bool]:
    whole = path.resolve()
    if "JPEGImages" in (whole.parent.name, whole.parent.parent.name) and _within(path, IMAGE_SUFFIXES):
        return [path], False
    if (path / "JPEGImages").is_dir():
        path = path / "JPEGImages"
    if path.resolve().name == "JPEGImages":
        path = next((path / name for name in _RESOLUTIONS if (path / name).is_dir()), path)
    if "JPEGImages" in (path.resolve().name, path.resolve().parent.name):
        found = [folder for folder in _folders(path) if _within(folder, IMAGE_SUFFIXES)]
        if not found:
            raise InputError(f"{path}: holds no folders of frames; name DAVIS's folder, or one in its JPEGImages")
        return found, True
    found = _within(path, _MEDIA) or [clip for folder in _folders(path) for clip in _within(folder, _MEDIA)]
    if not found:
        raise InputError(f"{path}: holds no {_WHAT}, nor do the folders in it; name a folder that does, or a file")
    return found, True


def _of_list(path: Path) -> list[Path]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not text; a list has the name of one clip a line") from error
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise InputError(f"{path}: names no clip; a list has the name of one clip a line")
    places = [path.parent, *_folders(path.parent)]
    found = [next((clip for place in places if (clip := _named(place / name))), None) for name in names]
    missing = [name for name, clip in zip(names, found, strict=True) if clip is None]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of its {len(names)} clips are not beside it, nor in a folder beside it, the first "
            f"of them {missing[0][:100]}; add them, or take them off the list"
        )
    return [clip for clip in found if clip is not None]


def _named(path: Path) -> Path | None:
    plain = path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path
    candidates = [path, *(Path(f"{plain}{suffix}") for suffix in sorted(VIDEO_SUFFIXES))]
    try:
        return next((candidate for candidate in candidates if candidate.exists()), None)
    except OSError:  # longer than a name may be
        return None


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _within(path: Path, suffixes: Collection[str]) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))


def _sequence(path: Path) -> list[Path]:
    """Pictures in the order of the last number in their names."""
    numbered: dict[int, Path] = {}
    for picture in _within(path, IMAGE_SUFFIXES):
        digits = re.findall(r"\d+", picture.stem)
        if not digits or int(digits[-1]) in numbered:
            raise InputError(f"{picture}: has no frame number of its own; name the frames 00000.jpg, 00001.jpg, ...")
        numbered[int(digits[-1])] = picture
    if not numbered:
        raise InputError(f"{path}: is a folder without pictures; name a clip, or a folder of frames")
    for number in range(min(numbered), max(numbered)):
        if number not in numbered:
            raise InputError(f"{path}: frame {number} is missing; copy the sequence again")
    return [numbered[number] for number in sorted(numbered)]


def _frames(pictures: list[Path], size: tuple[int, ...]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    for picture in pictures:
        frame = read_image(picture)
        if frame.shape[:2] != size:
            sizes = "x".join(map(str, frame.shape[:2])), "x".join(map(str, size))
            raise InputError(f"{picture}: is {sizes[0]} and the frames before it {sizes[1]}; make them of one size")
        yield frame
