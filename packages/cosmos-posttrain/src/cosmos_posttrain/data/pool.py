"""A pool of clips of one size: an array (N, T, H, W, 3) of 8-bit frames, or floats in [-1, 1], memory-mapped.

`cosmos_posttrain.clip_pool` writes such; of its two files the stream takes `training.npy`.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.data.arrays import as_colours, is_frames
from cosmos_posttrain.data.source import Description
from cosmos_tokenizer import InputError

TRAINING = "training.npy"

_AXES = 5


class Pool:
    """The clips of a pool file.

    Raises:
        InputError: the file is damaged or holds no clips.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            clips = np.lib.format.open_memmap(path, mode="r")
        except (ValueError, EOFError) as error:
            raise InputError(f"{path} is damaged or no array of clips ({error}); make it again") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check it") from error
        if not is_frames(clips.dtype, clips.shape, _AXES):
            raise InputError(
                f"{path} holds {clips.dtype} {clips.shape}, and clips are uint8 or floats (N, T, H, W, 3); make them so"
            )
        self._clips = clips

    def __reduce__(self) -> tuple[type["Pool"], tuple[Path]]:
        """Send the path to other processes, not the clips."""
        return Pool, (self._path,)

    def __len__(self) -> int:
        return len(self._clips)

    def describe(self, index: int) -> Description:
        """Return the size that all clips have."""
        _, frames, height, width, _ = self._clips.shape
        return Description(
            key=f"{self._path.name}/{index}", frames=frames, height=height, width=width, rate=None, text=None
        )

    def read(self, index: int, first: int, count: int, step: int) -> UInt8[np.ndarray, "T H W 3"]:
        """Copy a window of a clip."""
        window = np.array(self._clips[index, first : first + (count - 1) * step + 1 : step])
        if len(window) < count:
            raise InputError(f"{self._path}: clips have {self._clips.shape[1]} frames, and more were asked")
        return as_colours(window, f"{self._path.name}/{index}")
