"""The motion stage: how the camera and the scene of a clip move, and what the camera's motion is called."""

import dataclasses
import functools
from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import UInt8

from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.motion.camera import STILL, name_motion
from cosmos_curate.motion.config import MotionConfig
from cosmos_curate.motion.path import follow
from cosmos_curate.motion.vectors import measure_vectors
from cosmos_curate.stage import Columns, Item, Process, Stage

BLOCK = 9


def motion_stage(config: MotionConfig) -> Stage:
    """Return the stage that writes motion, camera_speed, shake, camera_motion, camera_motions and motion_vectors."""
    return Stage(
        name="motion",
        version=1,
        over="clip",
        open=functools.partial(open_motion, config),
        writes=("motion", "camera_speed", "shake", "camera_motion", "camera_motions", "motion_vectors"),
        samplings=(config.sampling,),
        settings=dataclasses.asdict(config),
    )


def open_motion(config: MotionConfig) -> Process:
    """Return the stage's function."""
    return functools.partial(measure_motion, config)


def measure_motion(config: MotionConfig, item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
    """Return the columns of one clip."""
    clip = frames[config.sampling]
    vectors = measure_vectors(item.path)
    calm = config.prefilter and vectors is not None and vectors <= config.still_vectors
    if calm and is_still(clip.pixels, config.still_levels):
        found = STILL
    else:
        found = name_motion(follow(clip.pixels, clip.times_s), config)
    return {
        "motion": found.scene,
        "camera_speed": found.speed,
        "shake": found.shake,
        "camera_motion": found.names[0],
        "camera_motions": list(found.names),
        "motion_vectors": vectors,
    }


def is_still(pixels: UInt8[np.ndarray, "T H W 1"], levels: float) -> bool:
    """Whether no block of 9 by 9 pixels differs from the first frame by more than so many gray levels on average."""
    first = pixels[0, :, :, 0]
    for frame in pixels[1:, :, :, 0]:
        apart = cv2.absdiff(first, frame).astype(np.float32)
        if cv2.blur(apart, (BLOCK, BLOCK)).max() > levels:
            return False
    return True
