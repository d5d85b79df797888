"""The eight kinds of rigid-body scenes (arXiv 2501.03575, section 5.3.2), by name; a clip is one by seed and number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cosmos_posttrain.worlds.backdrop import Backdrop, draw_backdrop
from cosmos_posttrain.worlds.cameras import Camera, place_cameras
from cosmos_posttrain.worlds.dominoes import dominoes
from cosmos_posttrain.worlds.free_fall import free_fall
from cosmos_posttrain.worlds.gyroscope import gyroscope
from cosmos_posttrain.worlds.scene import Scene
from cosmos_posttrain.worlds.seesaw import seesaw
from cosmos_posttrain.worlds.slopes import tilted_plane, u_slope
from cosmos_posttrain.worlds.stacks import stable_stack, unstable_stack
from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """A scene ready to be filmed."""

    scene: Scene
    backdrop: Backdrop
    cameras: tuple[Camera, ...]


SCENES: Mapping[str, Callable[[Generator], Scene]] = {
    "free-fall": free_fall,
    "tilted-plane": tilted_plane,
    "u-slope": u_slope,
    "stable-stack": stable_stack,
    "unstable-stack": unstable_stack,
    "dominoes": dominoes,
    "seesaw": seesaw,
    "gyroscope": gyroscope,
}


def scene_name(text: str) -> str:
    """Return the name of a scene, which may be written with capitals, spaces or underscores.

    Raises:
        InputError: there is no such scene.
    """
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    if name not in SCENES:
        raise InputError(f"no scene {text!r}: there are {', '.join(SCENES)}")
    return name


def draw(name: str, *, seed: int, number: int, cameras: int = 1) -> Take:
    """Return clip `number` of a scene by its name, which depends on nothing else but the seed.

    Backdrop and cameras have random numbers of their own, and the first cameras are the same whatever their number.
    """
    streams = np.random.default_rng([seed, list(SCENES).index(name), number]).spawn(3)
    scene = SCENES[name](streams[0])
    views = place_cameras(scene.view, streams[2], cameras)
    return Take(scene=scene, backdrop=draw_backdrop(streams[1]), cameras=tuple(views))
