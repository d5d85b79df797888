"""Stacks of boxes: one that stands, and one whose upper boxes hang too far over."""

import math
from collections.abc import Mapping
from types import MappingProxyType

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_colours
from cosmos_posttrain.worlds.scene import Scene, Thing, Vector, View, draw_skin, enumerated

NUMBERS = {3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}


def stable_stack(rng: Generator) -> Scene:
    """Draw three to five boxes, each within a centimetre of the middle."""
    things = _boxes(rng, half=rng.uniform(0.14, 0.2))
    shifts = [(float(x), float(y), float(rng.uniform(-8, 8))) for x, y in rng.uniform(-0.01, 0.01, (len(things), 2))]
    return _stack(things, shifts, what="stands still", view=View(focus=(0.0, 0.0, 0.5), reach=0.9))


def unstable_stack(rng: Generator) -> Scene:
    """Draw three to five boxes, each further over, until those above the lowest weigh beyond its edge."""
    half, beyond = float(rng.uniform(0.14, 0.18)), float(rng.uniform(0.04, 0.07))
    things = _boxes(rng, half=half)
    # Boxes 1 to n-1 of the same weight, at s, 2 s, ... of the lowest, have their centre of mass at s n / 2.
    step = 2 * (half + beyond) / len(things)
    turn = float(rng.uniform(-30, 30)) + 180 * int(rng.integers(2))
    x, y = step * math.cos(math.radians(turn)), step * math.sin(math.radians(turn))
    shifts = [(x * (k - 1), y * (k - 1), turn) for k in range(len(things))]
    view = View(focus=(math.copysign(0.25, x), 0.0, 0.45), reach=1.0)
    return _stack(things, shifts, what="topples over", view=view, parameters={"centre_of_mass_beyond_edge": beyond})


def _boxes(rng: Generator, *, half: float) -> list[Thing]:
    count = int(rng.integers(3, 6))
    height = float(rng.uniform(0.09, 0.14))
    return [
        Thing(colour=colour, shape="box", size=(half, half, height), skin=draw_skin(rng))
        for colour in draw_colours(rng, count)
    ]


def _stack(
    things: list[Thing],
    shifts: list[Vector],
    *,
    what: str,
    view: View,
    parameters: Mapping[str, float] = MappingProxyType({}),
) -> Scene:
    """Return the scene of things, the lowest first, each shifted along x and y and turned about z."""
    bodies, top = "", 0.0
    for thing, (x, y, turn) in zip(things, shifts, strict=True):
        bodies += thing.body((x, y, top + thing.size[2]), turn=(0.0, 0.0, turn))
        top += 2 * thing.size[2]
    colours = enumerated([thing.colour.name for thing in things])
    return Scene(
        caption=f"A stack of {NUMBERS[len(things)]} boxes, from the floor up {colours}, {what}.",
        things=tuple(things),
        bodies=bodies,
        view=view,
        parameters=parameters,
    )
