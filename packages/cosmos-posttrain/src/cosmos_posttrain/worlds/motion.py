"""A scene run by MuJoCo: the model compiled, stepped from frame to frame, and the state of its things read off."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cosmos_posttrain.worlds.backdrop import Backdrop
from cosmos_posttrain.worlds.cameras import Camera
from cosmos_posttrain.worlds.offscreen import load_mujoco
from cosmos_posttrain.worlds.scene import Scene

LONGEST_STEP = 0.002
"""Seconds; frames lie a whole number of steps apart."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class States:
    """The things of a scene frame by frame, in its order, in metres, seconds, kilograms and joules."""

    position: Float[np.ndarray, "T K 3"]
    """Of centres of mass."""
    orientation: Float[np.ndarray, "T K 4"]
    """Unit quaternions, scalar first."""
    velocity: Float[np.ndarray, "T K 3"]
    angular_velocity: Float[np.ndarray, "T K 3"]
    """In the world's axes."""
    energy: Float[np.ndarray, " T"]
    """Kinetic and potential, of all things together."""
    mass: Float[np.ndarray, " K"]


def start(
    scene: Scene, *, fps: int | float, backdrop: Backdrop | None = None, cameras: Sequence[Camera] = (), side: int = 64
) -> Any:  # noqa: ANN401 - MuJoCo is optional and its compiled types are unknown to checkers
    """A MuJoCo `MjData` at the first instant; in its `model`, cameras are camera0, camera1 … of `side` pixels."""
    mujoco = load_mujoco()
    eyes = "".join(camera.xml(f"camera{number}") for number, camera in enumerate(cameras))
    skins = "".join(f'<material name="skin{number}"/>' for number in range(3)) + '<material name="fixture"/>'
    asset, world, visual = skins, '<geom type="plane" size="30 30 0.1"/>', ""
    if backdrop is not None:
        asset, world, visual = backdrop.asset, backdrop.world, backdrop.visual
    steps = math.ceil(1 / fps / LONGEST_STEP - 1e-9)
    xml = f"""<mujoco><compiler angle="degree"/>
<option timestep="{1 / fps / steps:.17g}" integrator="{scene.integrator}" cone="elliptic" gravity="0 0 -9.81">
<flag energy="enable"/></option>
<statistic center="0 0 0.5" extent="4"/>
<visual><global offwidth="{side}" offheight="{side}"/><quality shadowsize="512" offsamples="0"/>{visual}</visual>
<asset>{asset}</asset><worldbody>{world}{scene.bodies}{eyes}</worldbody>{scene.extra}</mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml, dict(backdrop.files) if backdrop else {})
    data = mujoco.MjData(model)
    for body, velocity in scene.velocities.items():
        address = model.jnt_dofadr[model.body(body).jntadr[0]]
        data.qvel[address : address + len(velocity)] = velocity
    return data


def run(data: Any, *, frames: int, fps: int | float) -> Iterator[int]:  # noqa: ANN401
    """Yield the number of each frame when `data` is at its instant, frame / fps seconds from the start."""
    mujoco = load_mujoco()
    steps = round(1 / fps / data.model.opt.timestep)
    for frame in range(frames):
        if frame:
            mujoco.mj_step(data.model, data, nstep=steps)
        mujoco.mj_forward(data.model, data)
        yield frame


class Recorder:
    """Reads the states of a scene's things out of MuJoCo, once a frame."""

    def __init__(self, scene: Scene, data: Any) -> None:  # noqa: ANN401
        self._data = data
        self.bodies = [data.model.body(thing.name).id for thing in scene.things]
        self._rows: list[tuple[np.ndarray, ...]] = []

    def record(self) -> None:
        """Add the state at this instant."""
        mujoco, data = load_mujoco(), self._data
        moving = np.zeros((len(self.bodies), 6))
        for row, body in zip(moving, self.bodies, strict=True):
            mujoco.mj_objectVelocity(data.model, data, mujoco.mjtObj.mjOBJ_BODY, body, row, 0)
        self._rows.append(
            (data.xipos[self.bodies], data.xquat[self.bodies], moving[:, 3:], moving[:, :3], data.energy.sum())
        )

    def states(self) -> States:
        """Return what was added so far."""
        position, orientation, velocity, angular_velocity, energy = map(np.stack, zip(*self._rows, strict=True))
        return States(
            position=position,
            orientation=orientation,
            velocity=velocity,
            angular_velocity=angular_velocity,
            energy=energy,
            mass=self._data.model.body_mass[self.bodies],
        )


def simulate(scene: Scene, *, frames: int, fps: int | float) -> States:
    """Run a scene without rendering it."""
    data = start(scene, fps=fps)
    recorder = Recorder(scene, data)
    for _ in run(data, frames=frames, fps=fps):
        recorder.record()
    return recorder.states()
