"""Panda-70M's splitting (arXiv 2402.19479, section 3.1): cut with PySceneDetect, then stitch what goes on.

Numbers are those of the authors' splitting code, snap-research/Panda-70M, except the distances: theirs are between
ImageBind features, which take a package of their own. Ours are for `open_embedder` of `content.efficientnet`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.media.reading import Shown
from cosmos_curate.shots.content import content_detector
from cosmos_curate.shots.shot import Detect, Reading, Shot

Embed = Callable[[UInt8[np.ndarray, "T H W 3"]], Float32[np.ndarray, "T D"]]
"""Frames to features; they are brought to unit length here."""

PIECE_S, SLACK_S = 5.0, 2.0
"""A shot longer than both together is cut into pieces of the first length."""
INSET = 0.05
"""How far from a piece's ends its two frames lie, as a share of it."""
SIDE = 224
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Euclidean distances between features of unit length, 0 to 2.

    Args:
        stitch: neighbours whose facing frames are at most this far apart are one shot; 0.6 with ImageBind.
        transition: a piece whose own two frames are further apart holds a transition and belongs to no shot; 1.0 with
            ImageBind.
    """

    stitch: float = 0.6
    transition: float = 1.0


def panda_detector(threshold: float, embed: Embed, distances: Distances = Distances()) -> Detect:
    """Return the detector that cuts and stitches; it decodes a video twice.

    The authors go on to choose among the shots found, by length, stillness and likeness to earlier ones, and to trim a
    tenth at either end. That is selection; here the guard band and the rules on the manifest do it.

    Args:
        threshold: of the content detector.
        embed: looks at two frames of each piece, at 224x224.
    """
    find = content_detector(threshold)

    def detect(reading: Reading) -> list[Shot]:
        times: list[float] = []

        def timed() -> Iterator[Shown]:
            for shown in reading():
                times.append(shown.time_s)
                yield shown

        cut = pieces(find(timed), np.array(times))
        return stitched(cut, _features(reading, cut, embed), distances)

    return detect


def pieces(shots: Iterable[Shot], times_s: np.ndarray) -> list[Shot]:
    """Cut each shot of more than 7 s into pieces of 5 s from its start, until 7 s or less remain."""
    out = []
    for first, end in shots:
        while end - first > 1:
            last = times_s[end - 1]  # a frame's own length is left out of the count
            if last - times_s[first] <= PIECE_S + SLACK_S:
                break
            edge = int(np.searchsorted(times_s, times_s[first] + PIECE_S))
            edge = min(max(edge, first + 1), end - 1)
            out.append(Shot(first, edge))
            first = edge
        out.append(Shot(first, end))
    return out


def looked_at(piece: Shot) -> tuple[int, int]:
    """Return the two frames that stand for a piece's start and end."""
    length = piece.end - 1 - piece.first
    return piece.first + int(INSET * length), piece.first + int((1 - INSET) * length)


def _features(reading: Reading, cut: list[Shot], embed: Embed) -> Float32[np.ndarray, "pieces 2 D"]:
    wanted = [index for piece in cut for index in looked_at(piece)]
    rows: dict[int, np.ndarray] = dict.fromkeys(wanted, np.empty(0))
    batch: list[tuple[int, np.ndarray]] = []

    def flush() -> None:
        if batch:
            rows.update(zip((i for i, _ in batch), embed(np.stack([f for _, f in batch])), strict=True))
            batch.clear()

    for index, shown in enumerate(reading()):
        if index in rows:
            batch.append((index, shown.picture.pixels((SIDE, SIDE))))
            if len(batch) == BATCH:
                flush()
    flush()
    features = np.stack([rows[index] for index in wanted]).astype(np.float32)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return features.reshape(len(cut), 2, -1)


def stitched(
    cut: list[Shot], features: Float32[np.ndarray, "pieces 2 D"], distances: Distances = Distances()
) -> list[Shot]:
    """Join neighbouring pieces that look alike where they meet, leaving out those with a transition inside."""
    out: list[Shot] = []
    end_feature = None
    for piece, (start, end) in zip(cut, features, strict=True):
        if float(np.linalg.norm(start - end)) > distances.transition:
            continue
        touches = bool(out) and out[-1].end == piece.first
        if touches and float(np.linalg.norm(end_feature - start)) <= distances.stitch:
            out[-1] = Shot(out[-1].first, piece.end)
        else:
            out.append(piece)
        end_feature = end
    return out
