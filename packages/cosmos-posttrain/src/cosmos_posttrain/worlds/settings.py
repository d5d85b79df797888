"""Which clips to make: scenes in turn, how many, and of what size, length and rate."""

from dataclasses import dataclass
from typing import Any

from cosmos_posttrain.worlds.kinds import SCENES, scene_name
from cosmos_tokenizer import InputError

MULTIPLE, LARGEST = 16, 1024
"""Pixels of a side: what tokenizers and world models divide by, and the most."""
FASTEST = 500.0
MOST_CAMERAS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldsConfig:
    """Which clips: the scenes in turn, `count` in all. Clip n of a scene is the same whatever else is made.

    Raises:
        InputError: a scene that there is not, or a number out of range.
    """

    scenes: tuple[str, ...] = tuple(SCENES)
    count: int = 8
    seed: int = 0
    frames: int = 33
    size: int = 96
    """Pixels of a side; a multiple of 16."""
    fps: int | float = 24.0
    cameras: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenes", tuple(dict.fromkeys(map(scene_name, self.scenes))) or tuple(SCENES))
        for name, least in (("count", 1), ("frames", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more")
        if self.size % MULTIPLE or not MULTIPLE <= self.size <= LARGEST:
            near = min(max(MULTIPLE * round(self.size / MULTIPLE), MULTIPLE), LARGEST)
            raise InputError(
                f"size is {self.size}, which is no multiple of {MULTIPLE} from {MULTIPLE} to {LARGEST}; {near} would do"
            )
        if not 1 <= self.fps <= FASTEST:
            raise InputError(f"fps is {self.fps}; give 1 to {FASTEST:.0f} frames per second")
        if not 1 <= self.cameras <= MOST_CAMERAS:
            raise InputError(f"cameras is {self.cameras}; give 1 to {MOST_CAMERAS}")

    def clips(self) -> list[tuple[str, int]]:
        """Return each clip's scene and its number among that scene's, from 1."""
        return [(self.scenes[k % len(self.scenes)], k // len(self.scenes) + 1) for k in range(self.count)]

    def keys(self, name: str, number: int) -> list[str]:
        """Return the names, without suffix, of a clip's files as each camera saw it."""
        first = f"{name}-{number:04}"
        return [first, *(f"{first}-camera{camera}" for camera in range(1, self.cameras))]

    def about(self, name: str, number: int) -> dict[str, Any]:
        """Return what a clip's record begins with: all that determines it."""
        return {
            "scene": name,
            "num_frames": self.frames,
            "height": self.size,
            "width": self.size,
            "framerate": float(self.fps),
            "seed": self.seed,
            "number": number,
        }

    def agrees(self, record: Any, name: str, number: int) -> bool:  # noqa: ANN401 - any JSON value
        """Tell whether a clip's record is what `about` and the cameras would make it."""
        if not isinstance(record, dict) or not isinstance(record.get("cameras"), list):
            return False
        about = self.about(name, number)
        return {key: record.get(key) for key in about} == about and len(record["cameras"]) == self.cameras
