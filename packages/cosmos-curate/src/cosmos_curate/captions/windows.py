"""Which frames of a clip a captioner sees: some of the whole clip (arXiv 2501.03575, section 3), or window by window.

A window is a half-open range of the clip's frames, [first, end).
"""

import numpy as np
from jaxtyping import Float64, Int64

Window = tuple[int, int]


def windows(num_frames: int, size: int | None = 256) -> list[Window]:
    """Return windows that cover a clip's frames, each once.

    Args:
        num_frames: of the clip, at least 1.
        size: frames of a window; what remains is a window of its own if it is at least half of one, else it goes to
            the last; a clip shorter than a window is one window. None: the whole clip is one window.
    """
    if size is None:
        return [(0, num_frames)]
    count = max(1, num_frames // size)
    if num_frames > size and num_frames % size >= (size + 1) // 2:
        count += 1
    return [(k * size, num_frames if k == count - 1 else (k + 1) * size) for k in range(count)]


def spread(count: int, most: int) -> Int64[np.ndarray, "N"]:
    """Return the numbers of at most `most` of `count` things, rising, each once, evenly spread."""
    if count <= most:
        return np.arange(count)
    return ((2 * np.arange(most) + 1) * count) // (2 * most)


def frames_of(
    window: Window, times_s: Float64[np.ndarray, "F"], sampled_s: Float64[np.ndarray, "S"], most: int
) -> Int64[np.ndarray, "N"]:
    """Return the numbers of those sampled frames that show a window: never none, at most `most`.

    Args:
        window: of the clip.
        times_s: when each of the clip's F frames is shown, rising.
        sampled_s: when each of the S sampled frames is shown, by the same clock.
        most: where there are more, they are spread evenly over the window.
    """
    edges = (times_s[1:] + times_s[:-1]) / 2
    place = np.searchsorted(edges, sampled_s)
    inside = np.flatnonzero((place >= window[0]) & (place < window[1]))
    if not len(inside):
        middle = (window[0] + window[1] - 1) / 2
        inside = np.array([int(np.argmin(np.abs(place - middle)))])
    return inside[spread(len(inside), most)]
