"""Farneback's dense flow (SCIA 2003) between two frames, with how well it is known at each point.

Exposure is taken out first. A shift by phase correlation or the motion of the pair before is the start where it
explains the second frame better than none: Farneback's own pyramid loses motions of a few percent of the picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from cosmos_curate.motion.similarity import IDENTITY, Similarity

LEVELS, WINDOW, STEPS, NEIGHBOURHOOD, SPREAD = 5, 15, 3, 7, 1.5
"""Farneback's pyramid (halving), averaging window in pixels, steps a level, and polynomial in pixels."""
LIGHT = 1 / 8
"""Light is evened over this share of the shorter side."""
SOFT = 12.0
"""Local contrast, in gray levels, below which noise is not blown up."""
TEXTURE = 3.0
"""Gradient, in gray levels a pixel, at which a displacement counts half; a sky's noise stays well below."""
GRID = 4
"""Pixels between the points at which flow is kept."""
GAIN = 0.97
"""A start must leave at most this share of the difference that no motion leaves."""


@dataclass(frozen=True, eq=False)
class Field:
    """Flow at the points of a grid; lengths in diagonals of the picture, x to the right and y down.

    Args:
        points: from the picture's centre.
        displacements: to the next frame.
        tensors: how well these are known in each direction: symmetric, trace from 0 for no texture to 1 for plenty.
    """

    points: Float64[np.ndarray, "N 2"]
    displacements: Float64[np.ndarray, "N 2"]
    tensors: Float64[np.ndarray, "N 2 2"]


@dataclass(frozen=True, eq=False)
class View:
    """A frame made ready: as it was, and with light evened (0 to 255)."""

    gray: Float32[np.ndarray, "H W"]
    even: Float32[np.ndarray, "H W"]

    @property
    def diagonal(self) -> float:
        """Length of the picture's diagonal in pixels."""
        return float(np.hypot(*self.gray.shape))


def make_view(gray: UInt8[np.ndarray, "H W"]) -> View:
    """Return the frame with its local mean removed and its local contrast evened: gain and flicker drop out."""
    light = gray.astype(np.float32)
    sigma = max(min(gray.shape) * LIGHT, 1.0)
    mean = cv2.GaussianBlur(light, (0, 0), sigma)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(light * light, (0, 0), sigma) - mean * mean, 0))
    return View(light, np.clip((light - mean) / (spread + SOFT) * 50 + 128, 0, 255).astype(np.float32))


def choose_start(first: View, second: View, before: Similarity) -> Similarity:
    """Return what explains `second` best: no motion, the motion before, or a shift by phase correlation."""
    height, width = first.even.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F) if min(height, width) > 1 else None
    (right, down), _ = cv2.phaseCorrelate(first.even - 128, second.even - 128, window)
    shift = (float(right) / first.diagonal, float(down) / first.diagonal)
    best, least = IDENTITY, misfit(first, second, IDENTITY)
    for start in (before, Similarity(shift=shift, log_scale=0.0, angle=0.0, trust=0.0)):
        error = misfit(first, second, start)
        if error < GAIN * least:
            best, least = start, error
    return best


def misfit(first: View, second: View, motion: Similarity) -> float:
    """Return the mean difference that the motion leaves, in gray levels; infinite if it leaves under a quarter."""
    moved, inside = move_back(second, motion)
    if inside.mean() < 0.25:
        return float("inf")
    return float(np.abs(first.even - moved)[inside].mean())


def agreement(first: View, second: View, motion: Similarity) -> float:
    """Return how well the motion carries one frame into the other: their squared correlation, 0 where it is negative.

    A flow is smooth even into a flash or another shot; the pictures do not agree.
    """
    moved, inside = move_back(second, motion)
    one, other = first.even[inside].astype(np.float64), moved[inside].astype(np.float64)
    if not one.size:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    spread = (one @ one) * (other @ other)
    return float(max(one @ other, 0) ** 2 / spread) if spread > 0 else 0.0


def move_back(second: View, motion: Similarity) -> tuple[np.ndarray, np.ndarray]:
    """Return the second frame as it was before the motion, and where that is known."""
    height, width = second.even.shape
    x, y = (width - 1) / 2, (height - 1) / 2
    a, b = np.exp(motion.log_scale) * np.array([np.cos(motion.angle), np.sin(motion.angle)])
    right, down = np.array(motion.shift) * second.diagonal
    matrix = np.array([[a, -b, right + x - a * x + b * y], [b, a, down + y - b * x - a * y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second.even, matrix, (width, height), flags=flags, borderValue=-1e6)
    return moved, moved >= 0


def estimate_flow(first: View, second: View, start: Similarity = IDENTITY) -> Field:
    """Return the flow from the first frame to the second.

    Args:
        start: a motion near the true one; the flow is what is left of it, then both are joined.
    """
    height, width = first.even.shape
    target = second.even
    if start is not IDENTITY:
        moved, inside = move_back(second, start)
        target = np.where(inside, moved, first.even)
    left = cv2.calcOpticalFlowFarneback(
        first.even,
        target,
        np.zeros((height, width, 2), np.float32),
        0.5,
        LEVELS,
        WINDOW,
        STEPS,
        NEIGHBOURHOOD,
        SPREAD,
        0,
    )
    rows = np.arange(min(GRID // 2, height - 1), height, GRID)
    columns = np.arange(min(GRID // 2, width - 1), width, GRID)
    at = np.ix_(rows, columns)
    points = np.stack(np.meshgrid(columns - (width - 1) / 2, rows - (height - 1) / 2), 2).reshape(-1, 2)
    points = points / first.diagonal
    displacements = left[at].astype(np.float64).reshape(-1, 2) / first.diagonal
    tensors = measure_texture(first.gray, at)
    if start is not IDENTITY:
        displacements = displacements + start.displacements(points + displacements)
    landing = np.abs(points + displacements) * first.diagonal
    tensors[(landing[:, 0] > width / 2) | (landing[:, 1] > height / 2)] = 0
    return Field(points, displacements, tensors)


def measure_texture(gray: np.ndarray, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return structure tensors over Farneback's window, scaled to a trace that goes from 0 to 1 with the gradient."""
    right, down = cv2.Scharr(gray, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(gray, cv2.CV_32F, 0, 1) / 32
    parts = [cv2.boxFilter(part, -1, (WINDOW, WINDOW)) for part in (right * right, right * down, down * down)]
    xx, xy, yy = (part[at].astype(np.float64).ravel() for part in parts)
    energy = xx + yy
    tensors = np.stack([np.stack([xx, xy], 1), np.stack([xy, yy], 1)], 1)
    return tensors * (energy / (energy**2 + TEXTURE**4))[:, None, None]
