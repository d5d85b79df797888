"""Which text was laid over: it keeps its place while the picture moves; text of the scene moves with the scene.

The rule of stable boxes and of margins follows what arXiv 2501.03575, section 3, wants removed: text of
post-production, and not street signs. Where nothing moves, keeping its place proves nothing.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.overlay.boxes import areas, bounds, in_margin, overlap, same_line
from cosmos_curate.overlay.change import cells, changed_share, covered, is_card, shift

_LINKED = 0.5
_STEPS = 2
_MOVING = 0.5
_FULL = 0.01
_FLOOR, _MARGIN, _CARD = 0.2, 0.5, 0.8


@dataclass
class Track:
    """One text over the samples: which of them it was found in, and which of their boxes it is."""

    samples: list[int] = field(default_factory=list)
    boxes: list[int] = field(default_factory=list)


def link(found: list[Float32[np.ndarray, "_ 4"]], size: tuple[int, int]) -> list[Track]:
    """Link boxes of successive samples, one missing between them at most.

    A box goes on with the track whose last box it overlaps most, by half of their union at least, or whose line of
    subtitles it continues.

    Args:
        found: left, top, right, bottom of each box of each sample.
        size: height and width of the samples.
    """
    tracks: list[Track] = []
    for sample, boxes in enumerate(found):
        open_tracks = [track for track in tracks if sample - track.samples[-1] <= 2]
        pairs: list[tuple[float, int, int]] = []
        for one, track in enumerate(open_tracks):
            last = found[track.samples[-1]][track.boxes[-1]]
            for other, box in enumerate(boxes):
                shared = overlap(last, box)
                if shared >= _LINKED or same_line(last, box, size):
                    pairs.append((-shared, one, other))
        taken: set[int] = set()
        for _, one, other in sorted(pairs):
            if other not in taken and open_tracks[one].samples[-1] < sample:
                open_tracks[one].samples.append(sample)
                open_tracks[one].boxes.append(other)
                taken.add(other)
        tracks += [Track([sample], [other]) for other in range(len(boxes)) if other not in taken]
    return tracks


def certainties(
    tracks: list[Track], quads: list[Float32[np.ndarray, "_ 4 2"]], lumas: UInt8[np.ndarray, "T H W"]
) -> list[float]:
    """Return for each track how sure it is that its text was laid over, from 0 to 1.

    A step from one sample of a track to its next is stable if the strokes have not moved by a pixel since the track
    last moved, or another line took the same place in a margin. A track with more moves than stable steps is of the
    scene: 0, as is one seen in one sample of several. Else the steps' proofs are added up, and two make 1: a step
    proves as much as the share of the picture around the text that changed since then, or of all the picture if that
    is more than half. What lacks proof is trusted by place: 0.2, in a margin 0.5, upon an even ground 0.8.
    """
    size = lumas.shape[1:]
    found = [bounds(one) for one in quads]
    grid = cells(lumas)
    masks = [covered(grid, boxes) for boxes in found]
    answers: list[float] = []
    for track in tracks:
        boxes = [found[sample][box] for sample, box in zip(track.samples, track.boxes, strict=True)]
        if len(lumas) > 1 and len(boxes) == 1:
            answers.append(0.0)
            continue
        proof, stable, moved, anchor = 0.0, 0, 0, 0
        for step in range(1, len(boxes)):
            now = track.samples[step]
            before = track.samples[anchor]
            by = shift(lumas[before], lumas[now], boxes[anchor])
            if by != (0, 0):
                anchor, before = step, track.samples[step - 1]
                if by is not None or not same_line(boxes[step - 1], boxes[step], size):
                    moved += 1
                    continue
            stable += 1
            text = masks[before] | masks[now]
            around = covered(grid, boxes[step][None], grown=1.5)
            everywhere = changed_share(grid, before, now, text)
            near = changed_share(grid, before, now, text, around)
            proof += max(near, everywhere if everywhere > _MOVING else 0.0)
        if moved > stable:
            answers.append(0.0)
            continue
        cards = [is_card(grid, sample, masks[sample]) for sample in track.samples]
        middle = boxes[len(boxes) // 2]
        trust = _CARD if all(cards) else _MARGIN if in_margin(middle, size[0]) else _FLOOR
        answers.append(trust + (1 - trust) * min(1.0, proof / _STEPS))
    return answers


def overlay_score(
    tracks: list[Track], certainty: list[float], quads: list[Float32[np.ndarray, "_ 4 2"]], size: tuple[int, int]
) -> float:
    """Return text_overlay: the mean over samples of the sum of certainty x min(1, sqrt(area / 1 % of the picture)).

    A sample's sum is limited to its greatest certainty: many doubtful texts are no sure one. So it is the share of time
    x how large x how sure: 1 for a line of 1 % of the picture or more, all the time, that keeps its place before a
    moving scene; a station's logo of 0.2 % reaches 0.45.
    """
    total, limit = np.zeros(len(quads)), np.zeros(len(quads))
    shares = [areas(one) / (size[0] * size[1]) for one in quads]
    for track, sure in zip(tracks, certainty, strict=True):
        for sample, box in zip(track.samples, track.boxes, strict=True):
            total[sample] += sure * min(1.0, float(shares[sample][box] / _FULL) ** 0.5)
            limit[sample] = max(limit[sample], sure)
    return float(np.minimum(total, limit).mean())
