"""Objects found in generated frames by their hue: what stands in for exact masks where there are none (section 5.3.2).

The paper tracks objects with SAMURAI. In `cosmos_posttrain.worlds` each object has a hue of its own, at least 17
degrees from any other, and all else is nearly grey, so that colour says which object a pixel shows, without a network.

A pixel's chroma vector is (R - (G + B) / 2, sqrt(3) / 2 (G - B)): its angle is the hue and its length the chroma, from
0 to 255. Neither light and shadow, which scale the colour, nor grey mixed in, at an edge or by blur, turn the hue.
Chroma over the largest of R, G and B is the saturation, from 0 to 1, which shadow does not change and grey lowers in
proportion.

Reference of an object: over its pixels in the conditioning frames, by the exact masks of these, the direction of the
summed chroma vectors of the more colourful half (edges mix with what is behind them), and the median saturation.

A pixel shows the object with the nearest hue if that is within `WINDOW` degrees, its saturation is at least `SHARE` of
the object's, and its chroma at least `LEAST_CHROMA`; else it shows the surroundings. Each frame and each pixel is
classified by itself. The three were chosen on training clips: a lower share follows blurred frames better and true
ones less well.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

WINDOW = 45.0
"""Degrees of hue."""
SHARE = 0.5
"""Of an object's saturation."""
LEAST_CHROMA = 10.0
"""Levels of 255."""
LEAST_PIXELS = 9
"""Fewer show no object: 3 by 3."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ColourObjects:
    """The objects of a clip that can be told in its frames, and their colours."""

    numbers: Int[np.ndarray, " K"]
    """What they are in the clip's masks, from 1 up."""
    hues: Float[np.ndarray, " K"]
    """Radians."""
    saturations: Float[np.ndarray, " K"]

    def find(self, frames: UInt8[np.ndarray, "T H W 3"]) -> Bool[np.ndarray, "K T H W"]:
        """Return where each object is seen; no pixel shows two."""
        if not len(self.numbers):
            return np.zeros((0, *frames.shape[:3]), bool)
        hue, chroma, saturation = _colours(frames)
        away = np.stack([np.abs((hue - angle + np.pi) % (2 * np.pi) - np.pi) for angle in self.hues])
        nearest = away.argmin(0)
        coloured = (away.min(0) <= np.radians(WINDOW)) & (chroma >= LEAST_CHROMA)
        coloured &= saturation >= SHARE * self.saturations[nearest]
        return np.stack([coloured & (nearest == place) for place in range(len(self.numbers))])


def reference_colours(frames: UInt8[np.ndarray, "T H W 3"], masks: UInt8[np.ndarray, "T H W"]) -> ColourObjects:
    """Learn the colours of the objects that the last of the conditioning frames shows, `LEAST_PIXELS` or more of each.

    Args:
        frames: the conditioning frames.
        masks: exact ones of these, k + 1 where a pixel shows object k.
    """
    hue, chroma, saturation = _colours(frames)
    numbers = [n for n in range(1, int(masks.max(initial=0)) + 1) if (masks[-1] == n).sum() >= LEAST_PIXELS]
    hues, saturations = [], []
    for number in numbers:
        there = masks == number
        vivid = there & (chroma >= np.median(chroma[there]))
        hues.append(np.angle((chroma[vivid] * np.exp(1j * hue[vivid])).sum()))
        saturations.append(np.median(saturation[there]))
    return ColourObjects(
        numbers=np.array(numbers, int), hues=np.array(hues, float), saturations=np.array(saturations, float)
    )


def exact_objects(masks: UInt8[np.ndarray, "T H W"], numbers: Int[np.ndarray, " K"]) -> Bool[np.ndarray, "K T H W"]:
    """Return the exact masks of some of the objects, one behind another."""
    return masks[None] == numbers[:, None, None, None]


def _colours(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    red, green, blue = np.moveaxis(frames.astype(np.float32), -1, 0)
    across, up = red - (green + blue) / 2, np.sqrt(np.float32(0.75)) * (green - blue)
    chroma = np.hypot(across, up)
    return np.arctan2(up, across), chroma, chroma / np.maximum(frames.max(-1), 1)
