"""Rendered clips with all that a score needs, from a folder that `cosmos-posttrain worlds` filled."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.worlds.clip_files import read_masks
from cosmos_tokenizer import InputError
from cosmos_tokenizer.video import read_video


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WorldClip:
    """A clip with its exact masks, k + 1 where a pixel shows object k, 0 elsewhere."""

    key: str
    scene: str
    caption: str
    fps: float
    frames: UInt8[np.ndarray, "T H W 3"]
    masks: UInt8[np.ndarray, "T H W"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFile:
    """Where a clip lies, and what its record says."""

    folder: Path
    key: str
    scene: str
    number: int
    caption: str
    fps: float
    length: int
    """Frames."""

    def read(self) -> WorldClip:
        """Read frames and masks.

        Raises:
            InputError: a file is missing or damaged, or they are not of the length that the record says.
        """
        path = self.folder / f"{self.key}.masks.npz"
        if not path.is_file():
            raise InputError(f"{path}: no such file; render the clip again with cosmos-posttrain worlds")
        frames, masks = read_video(self.folder / f"{self.key}.mp4").frames, read_masks(path)
        if not frames.shape[:3] == masks.shape == (self.length, *masks.shape[1:]):
            raise InputError(
                f"{path}: has masks {masks.shape}, of frames {frames.shape[:3]} and a record of {self.length}; "
                "render the clip again"
            )
        return WorldClip(key=self.key, scene=self.scene, caption=self.caption, fps=self.fps, frames=frames, masks=masks)


def find_clips(folder: Path | str, *, limit: int | None = None) -> list[ClipFile]:
    """Return the clips of a folder, the first of each scene, then the second of each; `limit` of them at most.

    Raises:
        InputError: there is no such folder or no clip in it, or a record is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; fill it with cosmos-posttrain worlds --out {folder}")
    clips = [_record(path) for path in sorted(folder.glob("*.mp4"))]
    if not clips:
        raise InputError(f"{folder}: holds no clips; fill it with cosmos-posttrain worlds --out {folder}")
    return sorted(clips, key=lambda clip: (clip.number, clip.scene, clip.key))[:limit]


def check_lengths(clips: Sequence[ClipFile], conditioning: Sequence[int]) -> None:
    """Raise InputError where a clip has no frame left behind that many conditioning frames."""
    for given in conditioning:
        if given < 1:
            raise InputError(f"{given} conditioning frames: give 1 or more, such as 1 and 9")
        for clip in clips:
            if clip.length <= given:
                raise InputError(
                    f"{clip.folder / clip.key}.mp4: has {clip.length} frames, none behind {given} conditioning frames; "
                    "render longer clips"
                )


def _record(video: Path) -> ClipFile:
    path = video.with_suffix(".json")
    try:
        record = json.loads(path.read_bytes())
        return ClipFile(
            folder=video.parent,
            key=video.stem,
            scene=str(record["scene"]),
            number=int(record["number"]),
            caption=str(record["caption"]),
            fps=float(record["framerate"]),
            length=int(record["num_frames"]),
        )
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; a clip of cosmos-posttrain worlds has one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged, or no record of a rendered clip ({error!r}); render it again") from error
