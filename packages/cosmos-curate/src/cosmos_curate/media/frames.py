"""Frames of a clip as scorers ask for them: by rate, number and size, with the times they are shown at."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames of a clip, and how large; hashable, so that equal wishes share frames.

    Args:
        rate: frames a second by the clip's own clock: for each k the first frame at or after k / rate seconds from the
            clip's start, each frame once; None for every frame.
        most: at most so many of those, spread evenly and symmetrically over them (rate None, most 8: 8 of all frames).
        short_side: pixels of the shorter side, by area averaging, in proportion; never enlarged. None: as it is.
        gray: luma alone, one channel.
    """

    rate: float | None = None
    most: int | None = None
    short_side: int | None = None
    gray: bool = False


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames, at least one, RGB or gray.

    Args:
        pixels: full range, 0 to 255; C is 3 or 1.
        times_s: when each is shown, from the clip's start, rising.
    """

    pixels: UInt8[np.ndarray, "T H W C"]
    times_s: Float64[np.ndarray, "T"]
