"""The files of a generated clip: a video (of each view) or a picture, and beside it a .json of how it was made."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import whole_file
from cosmos_tokenizer.images import is_image
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.media import check_media_name, media_writer, to_frames

METADATA = ".json"


def check_output(out: str | Path, *, frames: int | None, inputs: Sequence[str | Path]) -> None:
    """Raise where a clip could not be written, before the work begins.

    Args:
        out: name of the clip, or of the first of several.
        frames: of the clip, where that is known yet.
        inputs: files that are read.

    Raises:
        InputError: another ending than .mp4, or .png and .jpg of one frame; a folder that is missing or in which
            nothing may be written; an input's name.
    """
    path = Path(out)
    still = is_image(path)
    check_media_name(path, still=still)
    if still and frames not in (None, 1):
        raise InputError(f"{out}: is a picture's name, and frames is {frames}: give a name that ends in .mp4")
    if not path.parent.is_dir():
        raise InputError(f"{out}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{out}: nothing may be written in folder {path.parent}; give another")
    for name in (path, path.with_suffix(METADATA)):
        if name.is_dir():
            raise InputError(f"{name}: is a folder; give the name of a file")
        if any(name.resolve() == Path(other).resolve() for other in inputs):
            raise InputError(f"{name}: is an input; write the output elsewhere")


def clip_name(out: str | Path, seed: int, seeds: int) -> Path:
    """``next.mp4`` itself where there is one seed, and ``next-SEED.mp4`` where there are several."""
    path = Path(out)
    return path if seeds == 1 else path.with_name(f"{path.stem}-{seed}{path.suffix}")


def clip_files(path: Path, views: int) -> list[Path]:
    """``next.mp4`` itself, or ``next-view0.mp4`` and so on where a clip has several views."""
    return [path.with_name(f"{path.stem}-view{view}{path.suffix}") for view in range(views)] if views > 1 else [path]


def write_clip(
    path: Path, video: Float[Tensor, "1 3 T H W"], metadata: Mapping[str, Any], *, rate: Fraction, views: int
) -> list[Path]:
    """Write a clip that is whole; see :func:`clip_writer`.

    Returns:
        The videos' names.

    Raises:
        OSError: a file cannot be written.
    """
    with clip_writer(path, size=(video.shape[3], video.shape[4]), rate=rate, views=views) as writer:
        writer.push(video)
        writer.finish(metadata)
    return writer.names


class ClipWriter:
    """Of a clip that comes in parts; see :func:`clip_writer`. `names`: of its videos."""

    def __init__(self, names: list[Path], adders: Sequence[Callable[[np.ndarray], None]], said: Path) -> None:
        self.names, self._adders, self._said = names, adders, said

    def push(self, video: Float[Tensor, "1 3 T H W"]) -> None:
        """Write the frames that follow; of views, those of each one behind another."""
        for add, view in zip(self._adders, video.chunk(len(self._adders), dim=2), strict=True):
            add(to_frames(view))

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Write how the clip was made."""
        said = {"out": [str(name) for name in self.names], **metadata}
        self._said.write_text(to_json(said, indent=2) + "\n")


@contextmanager
def clip_writer(path: Path, *, size: tuple[int, int], rate: Fraction, views: int) -> Iterator[ClipWriter]:
    """A clip's files, ``next-view0.mp4`` and so on where it has several views, and ``next.json``; all or nothing.

    Raises:
        OSError: a file cannot be written.
    """
    names = clip_files(path, views)
    with ExitStack() as whole:  # all take their names at the end, behind the last byte
        adders = [
            whole.enter_context(media_writer(name, size=size, rate=None if is_image(name) else rate)) for name in names
        ]
        yield ClipWriter(names, adders, whole.enter_context(whole_file(path.with_suffix(METADATA))))
