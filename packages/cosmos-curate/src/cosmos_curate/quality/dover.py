"""DOVER's technical branch as a scorer, run from an ONNX file (Wu et al., arXiv 2211.04894).

Fragments are those of FAST-VQA (arXiv 2207.02595). The networks are not part of this package, and their authors release
them for non-commercial use only. Input, as their export to ONNX has it: `tech_view`, float32 [views, 3, 32, 224, 224],
RGB less the ImageNet mean over its deviation; optionally `aes_view`, [1, 3, 32, 224, 224]. Output: one number, or
aesthetic and technical.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.models.cache import open_session, sha256

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

GRID, PATCH, LENGTH = 7, 32, 32
"""Fragments a side, pixels of each, and frames of a view."""

_SIDE = GRID * PATCH
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
_CENTRE, _SCALE = -0.08285, 0.03774


def fragments(pictures: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T 224 224 3"]:
    """Return 7 x 7 patches of 32 pixels at full resolution, one from the middle of each cell, side by side.

    The same places in all frames, so that change in time stays visible. Theirs lie at random in the cells; the middle
    makes equal clips score equally. A picture of fewer than 224 pixels on its shorter side is enlarged first.
    """
    import cv2

    height, width = pictures.shape[1:3]
    if min(height, width) < _SIDE:
        scale = _SIDE / min(height, width)
        size = max(math.ceil(width * scale), _SIDE), max(math.ceil(height * scale), _SIDE)
        pictures = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in pictures])
        height, width = pictures.shape[1:3]
    rows, columns = (np.arange(GRID) * side // GRID + (side // GRID - PATCH) // 2 for side in (height, width))
    down, across = (np.add.outer(starts, np.arange(PATCH)).ravel() for starts in (rows, columns))
    return pictures[:, down[:, None], across[None, :]]


def views(pictures: UInt8[np.ndarray, "T H W 3"], count: int) -> Float32[np.ndarray, "V 3 32 224 224"]:
    """Return the normalised input of the technical branch: `count` views that cover the clip, of 32 frames each.

    A view's frames are spread evenly over its part of the frames given; too few are repeated.
    """
    places = np.linspace(0, len(pictures) - 1, count * LENGTH).round().astype(int)
    found = (fragments(pictures)[places].astype(np.float32) - _MEAN) / _DEVIATION
    return np.ascontiguousarray(found.reshape(count, LENGTH, _SIDE, _SIDE, 3).transpose(0, 4, 1, 2, 3))


def whole(pictures: UInt8[np.ndarray, "T H W 3"]) -> Float32[np.ndarray, "1 3 32 224 224"]:
    """Return the normalised input of the aesthetic branch: 32 frames over the clip, each reduced to 224 x 224."""
    import cv2

    places = np.linspace(0, len(pictures) - 1, LENGTH).round().astype(int)
    small = np.stack([cv2.resize(pictures[place], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for place in places])
    return np.ascontiguousarray(((small.astype(np.float32) - _MEAN) / _DEVIATION).transpose(3, 0, 1, 2)[None])


@dataclass(frozen=True, kw_only=True)
class Dover:
    """A QualityScorer: an ONNX file of DOVER, or of its technical branch alone.

    The frames are spread over the clip. Theirs are every second one, in windows at random: equal spacing for a clip of
    64 frames a view, wider for a longer one.

    Args:
        path: the ONNX file.
        views: parts of the clip that are scored and averaged; what the file fixes must agree.
    """

    path: str
    views: int = 3

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise InputError(f"no ONNX file of DOVER at {self.path}")
        if self.views < 1:
            raise InputError(f"dover views {self.views} score nothing: give 1 or more")

    @property
    def sampling(self) -> Sampling:
        """As many frames of the clip as the views have, at full size."""
        return Sampling(most=self.views * LENGTH)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Version of the sampling, and the views."""
        return {"name": "dover", "version": 1, "views": self.views}

    @property
    def weights(self) -> Mapping[str, str]:
        """The file's sha256."""
        return {"dover": sha256(Path(self.path))}

    def open(self) -> Callable[[Frames], float]:
        """Load the network.

        Raises:
            InputError: its inputs are not DOVER's, or it is made for another number of views.
        """
        session = open_session(Path(self.path))
        inputs = {one.name: one.shape for one in session.get_inputs()}
        if "tech_view" not in inputs or not set(inputs) <= {"tech_view", "aes_view"}:
            raise InputError(f"{self.path} takes {', '.join(inputs)}, not tech_view and aes_view as DOVER does")
        fixed = inputs["tech_view"][0]
        if isinstance(fixed, int) and fixed != self.views:
            raise InputError(f"{self.path} is made for {fixed} views: set dover views to it, not {self.views}")
        return functools.partial(_score, session, self.views, "aes_view" in inputs)


def _score(session: "InferenceSession", count: int, with_whole: bool, frames: Frames) -> float:
    """Return technical quality from 0 to 100: the logistic of their score less its mean over its spread."""
    pictures = frames.pixels if frames.pixels.shape[3] == 3 else frames.pixels.repeat(3, 3)
    given = {"tech_view": views(pictures, count)}
    if with_whole:
        given["aes_view"] = whole(pictures)
    technical = float(np.mean(np.asarray(session.run(None, given)[-1], np.float64)))
    return 50 + 50 * math.tanh((technical - _CENTRE) / _SCALE / 2)
