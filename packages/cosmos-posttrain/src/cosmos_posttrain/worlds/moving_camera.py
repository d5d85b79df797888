"""Scenes for training pools: things that fall, dominoes, and a furnished room, each seen by a moving camera."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy.random import Generator
from PIL import Image

from cosmos_posttrain.worlds.offscreen import load_mujoco
from cosmos_posttrain.worlds.supersampling import SUPERSAMPLING, averaged
from cosmos_tokenizer import InputError

Array = np.ndarray
TEXTURE = 256
"""Side of a texture in pixels."""
MATERIALS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """A scene ready to run. Units are metres, seconds and degrees."""

    name: str
    xml: str
    assets: Mapping[str, bytes] = field(repr=False)
    """PNG textures that the XML names."""
    velocities: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Initial linear velocity of bodies with a free joint."""
    lookat: tuple[float, float, float] = (0.0, 0.0, 0.5)
    distance: tuple[float, float] = (1.8, 3.5)
    elevation: tuple[float, float] = (-35.0, -8.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraPath:
    """A camera that looks at a point from a direction, per frame."""

    lookat: Float[Array, "T 3"]
    distance: Float[Array, " T"]
    azimuth: Float[Array, " T"]
    elevation: Float[Array, " T"]


def texture_png(image: Image.Image) -> bytes:
    """The image's centre square as a small PNG."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    small = image.convert("RGB").resize((TEXTURE, TEXTURE), Image.Resampling.LANCZOS, box)
    buffer = io.BytesIO()
    small.save(buffer, "png")
    return buffer.getvalue()


def scene_xml(rng: Generator, bodies: str, *, walls: float) -> str:
    """`bodies` on a textured floor between four walls at that distance; their materials are named box0, box1, …"""
    sky = f'builtin="gradient" rgb1="{colour(rng)}" rgb2="{colour(rng)}"'
    assets = f'<texture type="skybox" {sky} width="64" height="384"/>'
    for i in range(MATERIALS):
        repeat = f"{rng.uniform(0.4, 2.0):.2f}"
        assets += f"""
<texture name="c{i}" type="cube" file="t{i}.png"/><texture name="p{i}" type="2d" file="t{i}.png"/>
<material name="box{i}" texture="c{i}" specular="{rng.uniform(0, 0.5):.2f}" reflectance="0"/>
<material name="flat{i}" texture="p{i}" texrepeat="{repeat} {repeat}" texuniform="true" specular="0"/>"""
    surfaces = f'<geom type="plane" size="12 12 0.1" material="flat{rng.integers(MATERIALS)}"/>'
    for x, y, turn in ((1, 0, -90), (-1, 0, 90), (0, 1, 0), (0, -1, 180)):
        skin = f'material="flat{rng.integers(MATERIALS)}" contype="0" conaffinity="0"'
        surfaces += f'<body pos="{x * walls} {y * walls} 1.5" euler="0 0 {turn}">'
        surfaces += f'<geom type="plane" euler="90 0 0" size="{walls} 1.5 0.1" {skin}/></body>'
    sun = f"{rng.uniform(-1.5, 1.5):.2f} {rng.uniform(-1.5, 1.5):.2f} 2.9"
    return f"""<mujoco>
<compiler angle="degree"/><option timestep="0.004"/>
<visual><global offwidth="1024" offheight="1024" fovy="{rng.uniform(40, 65):.1f}"/>
<quality shadowsize="512" offsamples="0"/>
<headlight ambient="0.35 0.35 0.35" diffuse="{rng.uniform(0.1, 0.4):.2f} 0.25 0.25" specular="0 0 0"/></visual>
<asset>{assets}</asset>
<worldbody><light pos="{sun}" dir="0 0 -1" diffuse="0.7 0.7 0.65" castshadow="true"/>{surfaces}{bodies}</worldbody>
</mujoco>"""


def colour(rng: Generator) -> str:
    """A random RGB colour as MJCF text."""
    return " ".join(f"{c:.2f}" for c in rng.uniform(0.1, 0.95, 3))


def shape(rng: Generator, size: float) -> str:
    """One geom of about `size` metres (half extent) with some material; as dense as light wood."""
    kind = ("sphere", "box", "cylinder", "capsule", "ellipsoid")[int(rng.integers(5))]
    extents = " ".join(f"{size * rng.uniform(0.6, 1.2):.3f}" for _ in range(3))
    skin = f'material="box{rng.integers(MATERIALS)}"' if rng.random() < 0.7 else f'rgba="{colour(rng)} 1"'
    return f'<geom type="{kind}" size="{extents}" density="500" solref="0.02 {rng.uniform(0.3, 1):.2f}" {skin}/>'


def dress(textures: Sequence[bytes], rng: Generator) -> dict[str, bytes]:
    """A random choice of textures, under the names that the scenes use."""
    return {f"t{i}.png": textures[k] for i, k in enumerate(rng.integers(0, len(textures), size=MATERIALS))}


def free_fall(rng: Generator, textures: Sequence[bytes]) -> World:
    """One to three shapes dropped from 0.8 to 2.8 m."""
    bodies, velocities = "", {}
    for i in range(int(rng.integers(1, 4))):
        x, y, z = *rng.uniform(-0.6, 0.6, 2), 0.8 + 0.75 * i + rng.uniform(0, 0.5)
        turn = " ".join(f"{angle:.0f}" for angle in rng.uniform(0, 360, 3))
        bodies += f'<body name="b{i}" pos="{x:.2f} {y:.2f} {z:.2f}" euler="{turn}"><freejoint/>'
        bodies += shape(rng, rng.uniform(0.12, 0.3)) + "</body>"
        velocities[f"b{i}"] = (float(rng.normal(0, 0.5)), float(rng.normal(0, 0.5)), 0.0)
    xml = scene_xml(rng, bodies, walls=rng.uniform(3.5, 5))
    return World(name="free_fall", xml=xml, assets=dress(textures, rng), velocities=velocities, lookat=(0.0, 0.0, 0.6))


def dominoes(rng: Generator, textures: Sequence[bytes]) -> World:
    """Five to eight slabs in a row, toppled by a ball."""
    count, skin = int(rng.integers(5, 9)), rng.integers(MATERIALS)
    bodies = '<body name="ball" pos="-0.6 0 0.35"><freejoint/>'
    bodies += '<geom type="sphere" size="0.12" density="900" rgba="0.8 0.2 0.1 1"/></body>'
    for i in range(count):
        bodies += f'<body pos="{0.28 * i:.2f} 0 0.3"><freejoint/>'
        bodies += f'<geom type="box" size="0.03 0.15 0.3" density="400" material="box{skin}"/></body>'
    return World(
        name="dominoes",
        xml=scene_xml(rng, bodies, walls=rng.uniform(3.5, 5)),
        assets=dress(textures, rng),
        velocities={"ball": (2.0, 0.0, 0.0)},
        lookat=(0.14 * count, 0.0, 0.25),
    )


def room(rng: Generator, textures: Sequence[bytes]) -> World:
    """Boxes standing between four walls, up to two shapes thrown among them, and the camera inside."""
    bodies, velocities = "", {}
    for _ in range(int(rng.integers(5, 11))):
        (x, y), turn, half = rng.uniform(-1.8, 1.8, 2), rng.uniform(0, 360), rng.uniform(0.1, 0.45, 3)
        bodies += f'<body pos="{x:.2f} {y:.2f} {half[2]:.2f}" euler="0 0 {turn:.0f}"><geom type="box" '
        bodies += f'size="{half[0]:.2f} {half[1]:.2f} {half[2]:.2f}" material="box{rng.integers(MATERIALS)}"/></body>'
    for i in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(-1, 1, 2)
        bodies += f'<body name="b{i}" pos="{x:.2f} {y:.2f} 1.3"><freejoint/>{shape(rng, 0.15)}</body>'
        velocities[f"b{i}"] = (float(rng.normal(0, 1.5)), float(rng.normal(0, 1.5)), float(rng.uniform(0, 2)))
    return World(
        name="room",
        xml=scene_xml(rng, bodies, walls=rng.uniform(2.4, 3.2)),
        assets=dress(textures, rng),
        velocities=velocities,
        lookat=(float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)), float(rng.uniform(0.4, 1.2))),
        distance=(0.8, 2.0),
        elevation=(-25.0, 3.0),
    )


SCENES: Mapping[str, Callable[[Generator, Sequence[bytes]], World]] = {
    "free_fall": free_fall,
    "dominoes": dominoes,
    "room": room,
}


def build_world(name: str, rng: Generator, textures: Sequence[bytes]) -> World:
    """A random instance of one of `SCENES`, dressed in draws of `textures` (square PNGs, see `texture_png`)."""
    if name not in SCENES or not textures:
        raise InputError(f"scene {name!r} must be one of {list(SCENES)}, with textures (got {len(textures)})")
    return SCENES[name](rng, textures)


def draw_camera(world: World, rng: Generator, *, frames: int) -> CameraPath:
    """A smooth path with heavy-tailed speeds, hand-held in half of the cases."""
    steps = np.arange(frames)
    shake = 0.004 * float(rng.lognormal(0, 0.7)) * (rng.random() < 0.5)
    drift = rng.normal(0, 0.006, 3) + rng.normal(0, 1, (frames, 3)) * shake
    turn = float(np.clip(0.5 * rng.standard_t(2), -4, 4)) * (rng.random() < 0.85)
    start = float(rng.uniform(*world.distance))
    lookat = np.array(world.lookat) + rng.normal(0, 0.1, 3) + np.cumsum(drift, axis=0)
    lookat[:, 2] = np.maximum(lookat[:, 2], 0.2)
    return CameraPath(
        lookat=lookat,
        distance=start * np.exp(np.clip(rng.normal(0, 0.004), -0.012, 0.012) * steps),
        azimuth=rng.uniform(0, 360) + turn * steps + rng.normal(0, 40 * shake, frames),
        elevation=np.clip(rng.uniform(*world.elevation) + rng.normal(0, 0.08) * steps, *world.elevation),
    )


def start(world: World) -> Any:  # noqa: ANN401 - MuJoCo is optional and its compiled types are unknown to checkers
    """A MuJoCo `MjData` at the world's first instant; its `model` is the compiled scene."""
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(world.xml, dict(world.assets))
    data = mujoco.MjData(model)
    for body, velocity in world.velocities.items():
        address = model.jnt_dofadr[model.body(body).jntadr[0]]
        data.qvel[address : address + 3] = velocity
    return data


def render(world: World, camera: CameraPath, *, size: int, fps: float = 24.0) -> UInt8[Array, "T H W 3"]:
    """Run the physics from its start and film it, one frame per 1/fps seconds."""
    mujoco = load_mujoco()
    data = start(world)
    view = mujoco.MjvCamera()
    renderer = mujoco.Renderer(data.model, SUPERSAMPLING * size, SUPERSAMPLING * size)
    film = []
    try:
        for t in range(len(camera.distance)):
            while data.time < t / fps:
                mujoco.mj_step(data.model, data)
            mujoco.mj_forward(data.model, data)
            view.lookat[:], view.distance = camera.lookat[t], camera.distance[t]
            view.azimuth, view.elevation = camera.azimuth[t], camera.elevation[t]
            renderer.update_scene(data, view)
            film.append(averaged(renderer.render()))
    finally:
        renderer.close()
    return np.stack(film)


def clips(
    count: int, rng: Generator, textures: Sequence[Image.Image], *, frames: int, size: int, per_world: int = 4
) -> Iterator[tuple[str, UInt8[Array, "T H W 3"]]]:
    """`count` clips with their scene's name; `per_world` consecutive ones are cut from each filmed world."""
    names, skins = list(SCENES), [texture_png(texture) for texture in textures]
    for first in range(0, count, per_world):
        pieces = min(per_world, count - first)
        world = build_world(names[(first // per_world) % len(names)], rng, skins)
        film = render(world, draw_camera(world, rng, frames=pieces * frames), size=size)
        for piece in rearrange(film, "(n t) h w c -> n t h w c", n=pieces):
            yield world.name, piece
