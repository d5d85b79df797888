"""What a scene stands in: a floor, in half of the cases walls, a sky and light, all nearly grey."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_grey, rgba
from cosmos_posttrain.worlds.patterns import PATTERNS, texture
from cosmos_posttrain.worlds.scene import SKINS

WALLS = 7.0
"""Metres from the middle to each wall, farther than any camera."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backdrop:
    """Surroundings in MJCF, by section."""

    visual: str = field(repr=False)
    asset: str = field(repr=False)
    world: str = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    """PNG textures that `asset` names."""


def draw_backdrop(rng: Generator) -> Backdrop:
    """Draw the patterns, shades and light of one scene."""
    files = {f"{place}.png": texture(name, rng, darkest=0.55) for place, name in enumerate(SKINS)}
    asset = "".join(
        f'<texture name="skin{place}" type="cube" file="{place}.png"/>'
        f'<material name="skin{place}" texture="skin{place}" specular="{rng.uniform(0, 0.4):.2f}" reflectance="0"/>'
        for place in range(len(SKINS))
    )
    for surface in ("floor", "wall"):
        name = str(rng.choice(list(PATTERNS)))
        files[f"{surface}.png"] = texture(name, rng, darkest=rng.uniform(0.5, 0.8))
        repeat = f"{rng.uniform(0.3, 1.0):.3f}"
        asset += f"""<texture name="{surface}" type="2d" file="{surface}.png"/>
<material name="{surface}" texture="{surface}" texrepeat="{repeat} {repeat}" texuniform="true"
rgba="{rgba(draw_grey(rng))}" specular="0" reflectance="0"/>"""
    asset += f'<material name="fixture" rgba="{rgba(draw_grey(rng))}" specular="0.1" reflectance="0"/>'
    upper, lower = (" ".join(f"{0.4 + 0.6 * level:.3f}" for level in draw_grey(rng)) for _ in range(2))
    asset += f'<texture type="skybox" builtin="gradient" rgb1="{upper}" rgb2="{lower}" width="64" height="384"/>'
    world = '<geom type="plane" size="30 30 0.1" material="floor"/>'
    if rng.random() < 0.5:
        for x, y, turn in ((1, 0, -90), (-1, 0, 90), (0, 1, 0), (0, -1, 180)):
            world += f'<body pos="{x * WALLS} {y * WALLS} 2" euler="0 0 {turn}">'
            world += f'<geom type="plane" euler="90 0 0" size="{WALLS} 2 0.1" contype="0" conaffinity="0"'
            world += ' material="wall"/></body>'
    x, y = rng.uniform(-2.5, 2.5, 2)
    world += f'<light pos="{x:.3f} {y:.3f} 6" dir="{-x:.3f} {-y:.3f} -6" cutoff="75" exponent="0" castshadow="true"'
    world += f' diffuse="{_light(rng.uniform(0.5, 0.7))}" specular="{_light(0.3)}"/>'
    visual = f'<headlight ambient="{_light(rng.uniform(0.3, 0.45))}" diffuse="{_light(0.25)}" specular="0 0 0"/>'
    return Backdrop(visual=visual, asset=asset, world=world, files=files)


def _light(level: float) -> str:
    return " ".join([f"{level:.3f}"] * 3)
