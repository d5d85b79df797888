"""PySceneDetect's detectors of changes in content, fed from the one decoding of a video.

Frames are brought to 256 pixels on the longer side as PySceneDetect does, by area averaging. Lengths are counted in
frames by the detectors; times play no part, so a variable frame rate changes nothing.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cosmos_curate.media.picture import Picture
from cosmos_curate.shots.shot import Detect, Reading, Shot

if TYPE_CHECKING:
    from scenedetect import SceneDetector

CONTENT_THRESHOLD = 25.0
"""As in the comparison of arXiv 2501.03575."""
ADAPTIVE_THRESHOLD = 3.0
SHORTEST = 15
"""Frames of the shortest shot, in both detectors."""
LONG_SIDE = 256


def content_detector(threshold: float = CONTENT_THRESHOLD) -> Detect:
    """Return ContentDetector: cuts where hue, saturation and luma change by more than the threshold on average.

    Args:
        threshold: mean change of a frame's pixels, 0 to 255.
    """

    def open_one() -> "SceneDetector":
        from scenedetect import ContentDetector

        return ContentDetector(threshold=threshold, min_scene_len=SHORTEST)

    return _detector(open_one)


def adaptive_detector(threshold: float = ADAPTIVE_THRESHOLD) -> Detect:
    """Return AdaptiveDetector: cuts where the change stands out from that of the frames around.

    Args:
        threshold: ratio of a frame's change to the mean of the two frames on either side.
    """

    def open_one() -> "SceneDetector":
        from scenedetect import AdaptiveDetector

        return AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=SHORTEST)

    return _detector(open_one)


def _detector(open_one: "Callable[[], SceneDetector]") -> Detect:
    def detect(reading: Reading) -> list[Shot]:
        return between(*cuts((shown.picture for shown in reading()), open_one()))

    return detect


def cuts(pictures: Iterator[Picture], one: "SceneDetector") -> tuple[list[int], int]:
    """Return the first frame behind each cut, rising, and how many frames there are."""
    from scenedetect import FrameTimecode

    found: set[int] = set()
    count, last = 0, FrameTimecode(0, 25.0)
    for count, picture in enumerate(pictures, 1):
        last = FrameTimecode(count - 1, 25.0)  # the rate has no effect on frame numbers
        found.update(cut.frame_num for cut in one.process_frame(last, _bgr(picture)))
    found.update(cut.frame_num for cut in one.post_process(last))
    return sorted(cut for cut in found if 0 < cut < count), count


def between(cuts: list[int], count: int) -> list[Shot]:
    """Return the shots that these cuts leave of so many frames."""
    edges = [0, *cuts, count]
    return [Shot(first, end) for first, end in zip(edges[:-1], edges[1:], strict=True)]


def _bgr(picture: Picture) -> np.ndarray:
    factor = max(1.0, max(picture.height, picture.width) / LONG_SIDE)
    size = max(1, round(picture.height / factor)), max(1, round(picture.width / factor))
    return np.ascontiguousarray(picture.pixels(size)[..., ::-1])
