"""Pieces of fixed length instead of shots."""

from cosmos_curate.shots.shot import Detect, Reading, Shot

GRACE_S = 0.0005


def stride_detector(stride_s: float) -> Detect:
    """Return the detector that starts a piece at the first frame at or after each multiple of `stride_s`.

    Time is the video's own, from its first frame; the last piece may be shorter.
    """

    def detect(reading: Reading) -> list[Shot]:
        edges, start, piece, count = [0], 0.0, 0, 0
        for count, shown in enumerate(reading(), 1):
            if count == 1:
                start = shown.time_s
            now = int((shown.time_s - start + GRACE_S) / stride_s)
            if now != piece:
                edges.append(count - 1)
                piece = now
        return [Shot(first, end) for first, end in zip(edges, [*edges[1:], count], strict=True)]

    return detect
