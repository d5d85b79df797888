"""A clip on disk: KEY.mp4, and beside it KEY.json (its record), KEY.txt (its caption) and KEY.masks.npz (its masks).

The masks are numpy's zipped archive with one array, `masks`, uint8 T H W: k + 1 where a pixel shows object k of the
record, 0 elsewhere. Matrices of cameras are in OpenCV's convention; quaternions have the scalar first.
"""

import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.worlds.kinds import Take
from cosmos_posttrain.worlds.studio import Film
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import whole_file, write_whole
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.video import Video, write_video

SUFFIXES = (".masks.npz", ".json", ".txt", ".mp4")
"""Files of a clip in the order in which they are written: where the last is, all are."""
DIGITS = 6
"""Decimals of the states: micrometres."""


def write_clip(
    folder: Path, key: str, take: Take, film: Film, *, camera: int, fps: int | float, about: Mapping[str, Any]
) -> None:
    """Write what one camera saw, each file whole or not at all; `about` is what the record begins with."""
    video = film.videos[camera]
    with whole_file(folder / f"{key}.masks.npz") as beside, beside.open("wb") as file:
        np.savez_compressed(file, masks=film.masks[camera])
    record = {**about, "camera": camera, **_record(take, film, size=video.shape[1])}
    write_whole(folder / f"{key}.json", (to_json(record) + "\n").encode())
    write_whole(folder / f"{key}.txt", (take.scene.caption + "\n").encode())
    write_video(folder / f"{key}.mp4", Video(frames=video, rate=Fraction(fps).limit_denominator(1001)))


def read_masks(file: Path | str | BufferedIOBase) -> UInt8[np.ndarray, "T H W"]:
    """Return the masks of a clip, from KEY.masks.npz or such a member of a shard.

    Raises:
        InputError: the file is damaged or holds no masks.
    """
    try:
        with _opened(file) as stream, np.load(stream) as archive:
            masks = archive["masks"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise InputError(f"{file}: is damaged or holds no masks ({error}); render the clip again") from error
    if masks.dtype != np.uint8 or masks.ndim != 3:
        raise InputError(f"{file}: holds {masks.dtype} {masks.shape}, and masks are uint8 (T, H, W)")
    return masks


def _opened(file: Path | str | BufferedIOBase) -> AbstractContextManager[BufferedIOBase]:
    return Path(file).open("rb") if isinstance(file, Path | str) else nullcontext(file)


def _record(take: Take, film: Film, *, size: int) -> dict[str, Any]:
    states = film.states
    return {
        "caption": take.scene.caption,
        "cameras": [
            {"intrinsics": camera.intrinsics(size).tolist(), "world_to_camera": camera.world_to_camera().tolist()}
            for camera in take.cameras
        ],
        "parameters": dict(take.scene.parameters),
        "objects": [
            {
                "name": thing.name,
                "shape": thing.shape,
                "size": list(thing.size),
                "colour": list(thing.colour.rgb),
                "mass": float(mass),
                "friction": thing.friction,
            }
            for thing, mass in zip(take.scene.things, states.mass, strict=True)
        ],
        "states": {
            name: np.round(getattr(states, name), DIGITS).tolist()
            for name in ("position", "orientation", "velocity", "angular_velocity", "energy")
        },
    }
