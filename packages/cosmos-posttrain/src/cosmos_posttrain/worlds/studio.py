"""Films of scenes: pictures, and by rendering once more for ids, which thing each pixel shows.

One GL context serves every scene, since in software a new one costs as much time as the pictures of a short clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cosmos_posttrain.worlds.kinds import Take
from cosmos_posttrain.worlds.motion import Recorder, States, run, start
from cosmos_posttrain.worlds.offscreen import check_renderer, load_mujoco
from cosmos_posttrain.worlds.supersampling import SUPERSAMPLING, averaged

MOST_GEOMS = 1000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Film:
    """What each camera saw, and the states at the same instants."""

    videos: tuple[UInt8[np.ndarray, "T H W 3"], ...]
    masks: tuple[UInt8[np.ndarray, "T H W"], ...]
    """Which thing the middle of each pixel shows: k + 1 for thing k, 0 for everything else."""
    states: States


class Studio:
    """Films square pictures of one size; a context manager, and of one thread.

    Raises:
        InputError: MuJoCo is not installed, or cannot render here.
    """

    def __init__(self, *, size: int) -> None:
        check_renderer()
        self._size, self._fine = size, SUPERSAMPLING * size
        self._gl = load_mujoco().GLContext(self._fine, self._fine)

    def __enter__(self) -> "Studio":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gl.free()

    def film(self, take: Take, *, frames: int, fps: int | float) -> Film:
        """Run the physics and film it, a frame every 1/fps seconds, the first at the start."""
        mujoco, cameras = load_mujoco(), take.cameras
        data = start(take.scene, fps=fps, backdrop=take.backdrop, cameras=cameras, side=self._fine)
        recorder = Recorder(take.scene, data)
        things = _things_of_geoms(data.model, recorder.bodies)
        pictures: list[list[np.ndarray]] = [[] for _ in cameras]
        masks: list[list[np.ndarray]] = [[] for _ in cameras]
        self._gl.make_current()
        context = mujoco.MjrContext(data.model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        try:
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
            view = mujoco.MjvScene(data.model, maxgeom=MOST_GEOMS)
            for _ in run(data, frames=frames, fps=fps):
                recorder.record()
                for number in range(len(cameras)):
                    _look(view, data, number)
                    pictures[number].append(averaged(_picture(view, context, self._fine)))
                    masks[number].append(things[_geoms(view, context, self._size)])
        finally:
            context.free()
        return Film(
            videos=tuple(np.stack(shots) for shots in pictures),
            masks=tuple(np.stack(shots) for shots in masks),
            states=recorder.states(),
        )


def _look(view: Any, data: Any, number: int) -> None:  # noqa: ANN401
    """Bring a MuJoCo `MjvScene` up to date, as that camera sees it."""
    mujoco = load_mujoco()
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
    everything = mujoco.mjtCatBit.mjCAT_ALL.value
    mujoco.mjv_updateScene(data.model, data, mujoco.MjvOption(), None, camera, everything, view)


def _picture(view: Any, context: Any, side: int) -> UInt8[np.ndarray, "h w 3"]:  # noqa: ANN401
    """Render, and turn upright what GL has upside down."""
    mujoco = load_mujoco()
    rectangle, picture = mujoco.MjrRect(0, 0, side, side), np.empty((side, side, 3), np.uint8)
    mujoco.mjr_render(rectangle, view, context)
    mujoco.mjr_readPixels(picture, None, rectangle, context)
    return np.flipud(picture)


def _geoms(view: Any, context: Any, side: int) -> np.ndarray:  # noqa: ANN401
    """Return the geom that each pixel shows, -1 for the sky."""
    mujoco = load_mujoco()
    flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
    for flag in flags:
        view.flags[flag] = 1
    colours = _picture(view, context, side).astype(np.int64)
    for flag in flags:
        view.flags[flag] = 0
    geoms = np.full(view.ngeom + 1, -1)  # by segment id + 1, which is the colour; 0 is the sky
    for drawn in view.geoms[: view.ngeom]:
        if drawn.objtype == mujoco.mjtObj.mjOBJ_GEOM:
            geoms[drawn.segid + 1] = drawn.objid
    return geoms[colours @ np.array([1, 1 << 8, 1 << 16])]


def _things_of_geoms(model: Any, bodies: Sequence[int]) -> UInt8[np.ndarray, " G"]:  # noqa: ANN401
    """Return the number of the thing that each geom belongs to, and at the end 0, which -1, the sky, picks."""
    numbers = {body: number for number, body in enumerate(bodies, start=1)}
    return np.array([*(numbers.get(int(body), 0) for body in model.geom_bodyid), 0], np.uint8)
