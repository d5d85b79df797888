"""From the camera's path to its motions by name, and to the numbers of the manifest.

The path is smoothed; what stays is pan, tilt, zoom and roll, what drops out is shake. A camera that goes forward is a
zoom in, and one that goes sideways a pan: a similarity cannot tell.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cosmos_curate.motion.config import MotionConfig
from cosmos_curate.motion.path import CameraPath

CALM = 0.75
NAMES = (
    ("pan left", "pan right"),
    ("tilt up", "tilt down"),
    ("zoom in", "zoom out"),
    ("roll left", "roll right"),
)
"""For each speed of a path, the camera's motion where it is above zero and where it is below."""


@dataclass(frozen=True, kw_only=True)
class CameraMotion:
    """What a clip's motion comes to; speeds in diagonals a second.

    Args:
        names: of `schema.CAMERA_MOTIONS`, the main one first; "static" stands alone.
        speed: of the camera without its shake.
        shake: of the camera about its smooth path, in the calmest three quarters of the clip.
        scene: of what moves beside the camera.
    """

    names: tuple[str, ...]
    speed: float
    shake: float
    scene: float


STILL = CameraMotion(names=("static",), speed=0.0, shake=0.0, scene=0.0)


def name_motion(path: CameraPath, config: MotionConfig) -> CameraMotion:
    """Name the camera's motions; of a path without steps or without anything to see it is static."""
    weights = path.steps_s * path.trust
    if not weights.any():
        return STILL
    weights = weights / weights.sum()
    calm = smooth(path, config.smooth_s)
    speeds = np.linalg.norm(calm, axis=1)
    speed = float((path.steps_s * speeds).sum() / path.steps_s.sum())
    shake = calm_spread(np.linalg.norm(path.speeds - calm, axis=1), weights)
    scene = float((weights * path.rest).sum())
    enough = np.maximum(max(config.slow, config.against * scene), config.beside * np.hypot(speeds, shake))
    strengths = {}
    for calm_one, names in zip(calm.T, NAMES, strict=True):
        for name, along in zip(names, (calm_one, -calm_one), strict=True):
            strength = strength_of(along, enough, path.steps_s, config)
            if strength > 0:
                strengths[name] = strength
    if shake >= max(config.shaky, config.shaky_beside * speed, config.against * scene):
        strengths["shake"] = shake
    names = tuple(sorted(strengths, key=lambda name: -strengths[name])) or STILL.names
    return CameraMotion(names=names, speed=speed, shake=shake, scene=scene)


def calm_spread(sizes: Float64[np.ndarray, "N"], weights: Float64[np.ndarray, "N"]) -> float:
    """Return the root mean square over the smallest sizes that make up `CALM` of the weight.

    A start, a stop, a bump or a misjudged pair is no shake: that goes on.
    """
    order = np.argsort(sizes, kind="stable")
    before = np.r_[0.0, np.cumsum(weights[order])[:-1]]
    kept = np.clip(CALM * weights.sum() - before, 0, weights[order])
    return float(np.sqrt((kept * sizes[order] ** 2).sum() / kept.sum()))


def smooth(path: CameraPath, half_s: float) -> Float64[np.ndarray, "N 4"]:
    """Return the speeds averaged over `half_s` seconds to either side by a Hann window, by duration and trust."""
    apart = np.abs(path.middles_s[:, None] - path.middles_s[None, :])
    window = np.where(apart < half_s, 0.5 + 0.5 * np.cos(np.pi * apart / half_s), 0)
    window = window * (path.steps_s * (path.trust + 1e-6))
    return window @ path.speeds / window.sum(1, keepdims=True)


def strength_of(
    along: Float64[np.ndarray, "N"],
    enough: Float64[np.ndarray, "N"],
    steps_s: Float64[np.ndarray, "N"],
    config: MotionConfig,
) -> float:
    """Return the mean speed over the clip of the parts in which this motion goes on; 0 if they are too short.

    A part starts where the speed is enough and lasts while it is half of that.
    """
    going = along >= enough / 2
    starts = np.flatnonzero(going & ~np.r_[False, going[:-1]])
    ends = np.flatnonzero(going & ~np.r_[going[1:], False]) + 1
    whole = steps_s.sum()
    lasted = moved = 0.0
    for start, end in zip(starts, ends, strict=True):
        part = slice(start, end)
        seconds = steps_s[part].sum()
        if (along[part] >= enough[part]).any() and seconds >= min(config.lasting_s, whole / 2):
            lasted += seconds
            moved += (along[part] * steps_s[part]).sum()
    return float(moved / whole) if lasted >= config.share * whole else 0.0
