"""Colours that tell objects apart: each object of a scene has a hue of its own, and everything else is nearly grey."""

import colorsys
from dataclasses import dataclass

from numpy.random import Generator

HUES = {
    "red": 0,
    "orange": 30,
    "yellow": 55,
    "lime": 90,
    "green": 140,
    "cyan": 185,
    "blue": 225,
    "purple": 275,
    "pink": 320,
}
"""Degrees, at least 25 apart; a colour strays from its own by 4 at most, so no two are closer than 17."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Colour:
    """A saturated colour with its English name."""

    name: str
    rgb: tuple[float, float, float]
    """From 0 to 1, before light and shadow."""


def draw_colours(rng: Generator, count: int) -> list[Colour]:
    """Return `count` colours of different hues, nine at most."""
    colours = []
    for name in rng.choice(list(HUES), size=count, replace=False):
        hue = (HUES[str(name)] + rng.uniform(-4, 4)) / 360 % 1
        rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0.8, 0.95), rng.uniform(0.85, 1.0))
        colours.append(Colour(name=str(name), rgb=rgb))
    return colours


def draw_grey(rng: Generator) -> tuple[float, float, float]:
    """Return a colour of the surroundings: any hue, of hardly any saturation."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, 0.15), rng.uniform(0.35, 0.9))


def rgba(rgb: tuple[float, float, float]) -> str:
    """A colour as MJCF text."""
    return " ".join(f"{level:.3f}" for level in (*rgb, 1.0))
