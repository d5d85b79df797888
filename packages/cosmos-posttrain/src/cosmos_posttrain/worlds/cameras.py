"""Static cameras around a scene, with exact matrices in OpenCV's convention: x right, y down, z forward."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from cosmos_posttrain.worlds.scene import View

GOLDEN_ANGLE = 137.5
"""Degrees from one camera to the next, so that any number of them stand well apart."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Camera:
    """A camera that stands still, upright, in metres and degrees."""

    position: Float[np.ndarray, " 3"]
    rotation: Float[np.ndarray, "3 3"]
    """Rows are the camera's right, down and forward in the world."""
    field_of_view: float
    """Vertical, and horizontal too, as pictures are square."""

    def world_to_camera(self) -> Float[np.ndarray, "4 4"]:
        """Return the matrix that takes homogeneous world points to the camera's axes."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, -self.rotation @ self.position
        return matrix

    def intrinsics(self, size: int) -> Float[np.ndarray, "3 3"]:
        """Return the matrix that takes camera points to pixels of a square picture, whose corner is (0, 0).

        The middle of its first pixel is (0.5, 0.5).
        """
        focal = size / 2 / math.tan(math.radians(self.field_of_view) / 2)
        return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])

    def xml(self, name: str) -> str:
        """The camera in MJCF, whose axes are right, up and backward."""
        right, up = self.rotation[0], -self.rotation[1]
        axes = " ".join(f"{value:.17g}" for value in (*right, *up))
        place = " ".join(f"{value:.17g}" for value in self.position)
        return f'<camera name="{name}" pos="{place}" xyaxes="{axes}" fovy="{self.field_of_view:.17g}"/>'


def place_cameras(view: View, rng: Generator, count: int) -> list[Camera]:
    """Draw `count` cameras; the first ones are the same whatever their number."""
    azimuth = rng.choice([-90, 90]) + rng.uniform(-view.side, view.side)
    cameras = []
    for number in range(count):
        turn = math.radians(azimuth + GOLDEN_ANGLE * number)
        rise = math.radians(rng.uniform(*view.elevation))
        angle = float(rng.uniform(35, 50))
        distance = view.reach * rng.uniform(1.0, 1.2) / math.sin(math.radians(angle) / 2)
        back = np.array([math.cos(turn) * math.cos(rise), math.sin(turn) * math.cos(rise), math.sin(rise)])
        right = np.array([-math.sin(turn), math.cos(turn), 0.0])
        rotation = np.stack([right, np.cross(-back, right), -back])
        position = np.array(view.focus) + rng.normal(0, 0.03 * view.reach, 3) + distance * back
        cameras.append(Camera(position=position, rotation=rotation, field_of_view=angle))
    return cameras
