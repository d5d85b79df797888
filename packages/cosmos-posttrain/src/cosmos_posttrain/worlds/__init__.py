"""Physics scenes rendered with MuJoCo: eight kinds of rigid bodies with exact masks and states, and scenes for pools.

`make` writes clips by a `WorldsConfig`; `draw` and `Studio` make one at a time, and `simulate` runs a scene unseen.
`moving_camera` has the scenes of training pools. Needs the extra `worlds`, and a GL library that renders without a
display (Debian: libosmesa6).
"""

from cosmos_posttrain.worlds.cameras import Camera as Camera
from cosmos_posttrain.worlds.clip_files import read_masks as read_masks
from cosmos_posttrain.worlds.kinds import SCENES as SCENES
from cosmos_posttrain.worlds.kinds import Take as Take
from cosmos_posttrain.worlds.kinds import draw as draw
from cosmos_posttrain.worlds.making import make as make
from cosmos_posttrain.worlds.motion import States as States
from cosmos_posttrain.worlds.motion import simulate as simulate
from cosmos_posttrain.worlds.moving_camera import clips as clips
from cosmos_posttrain.worlds.offscreen import check_renderer as check_renderer
from cosmos_posttrain.worlds.offscreen import load_mujoco as load_mujoco
from cosmos_posttrain.worlds.scene import Scene as Scene
from cosmos_posttrain.worlds.settings import WorldsConfig as WorldsConfig
from cosmos_posttrain.worlds.studio import Film as Film
from cosmos_posttrain.worlds.studio import Studio as Studio

__all__ = [
    "SCENES",
    "Camera",
    "Film",
    "Scene",
    "States",
    "Studio",
    "Take",
    "WorldsConfig",
    "check_renderer",
    "clips",
    "draw",
    "load_mujoco",
    "make",
    "read_masks",
    "simulate",
]
