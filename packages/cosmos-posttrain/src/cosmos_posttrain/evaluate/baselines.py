"""What a prediction has to beat: the last frame held still, and objects that go on at constant velocity.

Both see the conditioning frames alone; the second is told the exact masks of these besides, which a model is not.
"""

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.evaluate.colour_objects import LEAST_PIXELS


def copy_last_frame(given: UInt8[np.ndarray, "K H W 3"], *, frames: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Return the given frames, and the last of them again until there are `frames`."""
    return np.concatenate([given, np.repeat(given[-1:], frames - len(given), 0)])


def constant_velocity(
    given: UInt8[np.ndarray, "K H W 3"], masks: UInt8[np.ndarray, "K H W"], *, frames: int
) -> UInt8[np.ndarray, "T H W 3"]:
    """Return the given frames, and then each object's pixels moved on by whole pixels, unturned.

    An object's velocity is how far its mask's centroid moved between the last two given frames (more of them did worse
    on training clips: objects speed up and collide), where at least `LEAST_PIXELS` show it in both; 0 elsewhere, and so
    from one frame: then this is `copy_last_frame`. What it uncovers is the median over the given frames that show the
    surroundings there, or where none does the nearest pixel of the surroundings. An object whose mask ends lower in the
    picture passes in front of others.
    """
    last, shown = given[-1], masks[-1]
    velocities = {n: _velocity(masks[-2:] == n) for n in np.unique(shown[shown > 0])}
    lowest = {n: np.nonzero(shown == n)[0].max() for n in velocities}
    behind = _surroundings(given, masks)
    result = copy_last_frame(given, frames=frames)
    for place in range(len(given), frames):
        steps = {n: np.rint(v * (place - len(given) + 1)).astype(int) for n, v in velocities.items()}
        left = [n for n, step in steps.items() if step.any()]
        picture = np.where(_grown(np.isin(shown, left))[..., None], behind, last)
        for number in sorted(steps, key=lambda n: lowest[n]):
            places = np.argwhere(shown == number)
            moved = places + steps[number]
            seen = ((moved >= 0) & (moved < shown.shape)).all(1)
            picture[tuple(moved[seen].T)] = last[tuple(places[seen].T)]
        result[place] = picture
    return result


def _velocity(mask_THW: np.ndarray) -> np.ndarray:
    """Rows and columns a frame."""
    if len(mask_THW) < 2 or mask_THW.sum((1, 2)).min() < LEAST_PIXELS:
        return np.zeros(2)
    rows, columns = np.mgrid[: mask_THW.shape[1], : mask_THW.shape[2]]
    before, now = ([(mask * axis).sum() / mask.sum() for axis in (rows, columns)] for mask in mask_THW)
    return np.subtract(now, before)


def _surroundings(given_THWC: np.ndarray, masks_THW: np.ndarray) -> np.ndarray:
    """The picture without its objects; their edges, which mix with what is behind, count as objects."""
    covered = np.stack([_grown(mask > 0) for mask in masks_THW])
    pixels = np.ma.masked_array(given_THWC, np.repeat(covered[..., None], 3, -1))
    middle = np.ma.median(pixels, axis=0).filled(0).round().astype(np.uint8)
    unknown = covered.all(0)
    if unknown.any() and not unknown.all():
        known = np.argwhere(~unknown)
        for row, column in np.argwhere(unknown):
            middle[row, column] = middle[tuple(known[((known - (row, column)) ** 2).sum(1).argmin()])]
    return middle


def _grown(mask_HW: np.ndarray) -> np.ndarray:
    """With the eight neighbours of each pixel."""
    wide = np.pad(mask_HW, 1)
    wide = wide[:-2] | wide[1:-1] | wide[2:]
    return wide[:, :-2] | wide[:, 1:-1] | wide[:, 2:]
