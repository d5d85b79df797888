"""Networks that see 100 small frames at a time, run over a stream of frames (TransNet V2, arXiv 2008.04838, section 3).

The windows are upstream's: each step is 50 frames with 25 more on either side; before the first frame and behind the
last there are copies of it. A frame is brought to 48x27 by area averaging, whatever its shape; upstream has FFmpeg's
bicubic filter there, which at such factors averages much the same samples.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.shots.shot import Detect, Reading, Shot

WINDOW, STEP, CONTEXT = 100, 50, 25
HEIGHT, WIDTH = 27, 48

Run = Callable[[UInt8[np.ndarray, "100 27 48 3"]], Float32[np.ndarray, "100"]]
"""One window's frames, RGB, to each frame's probability of belonging to a transition."""


def probabilities(frames: Iterable[UInt8[np.ndarray, "27 48 3"]], run: Run) -> Float32[np.ndarray, "T"]:
    """Return each frame's probability of belonging to a transition; memory holds one window of frames.

    Args:
        frames: RGB, in the order shown.
        run: the network.
    """
    window = np.empty((WINDOW, HEIGHT, WIDTH, 3), np.uint8)
    filled = count = 0
    out: list[np.ndarray] = []
    for frame in frames:
        if not count:
            window[:CONTEXT] = frame
            filled = CONTEXT
        window[filled] = frame
        filled, count = filled + 1, count + 1
        if filled == WINDOW:
            out.append(run(window)[CONTEXT : CONTEXT + STEP])
            window[: WINDOW - STEP] = window[STEP:]
            filled -= STEP
    while len(out) * STEP < count:
        window[filled:] = window[filled - 1]
        out.append(run(window)[CONTEXT : CONTEXT + STEP])
        window[: WINDOW - STEP] = window[STEP:]
        filled = WINDOW - STEP
    return np.concatenate(out)[:count].astype(np.float32) if out else np.empty(0, np.float32)


def shots_between(probability: Float32[np.ndarray, "T"], threshold: float) -> list[Shot]:
    """Return the runs of frames at or below the threshold; frames above it are transitions and belong to no shot.

    Of a hard cut the network marks the last frame before it. Where all frames are above, upstream's rule takes the
    whole video for one shot.
    """
    still = np.concatenate([[False], probability <= threshold, [False]])
    edges = np.flatnonzero(still[1:] != still[:-1])
    if not len(edges):
        return [Shot(0, len(probability))] if len(probability) else []
    return [Shot(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def small(reading: Reading) -> Iterator[UInt8[np.ndarray, "27 48 3"]]:
    """Yield a video's frames as the networks take them."""
    for shown in reading():
        yield shown.picture.pixels((HEIGHT, WIDTH))


def detector(run: Run, threshold: float) -> Detect:
    """Return the detector that a network and a threshold make."""

    def detect(reading: Reading) -> list[Shot]:
        return shots_between(probabilities(small(reading), run), threshold)

    return detect
