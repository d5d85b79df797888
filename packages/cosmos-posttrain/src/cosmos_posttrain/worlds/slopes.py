"""A tilted plane, on which shapes slide or roll down, and a U-slope, a half-pipe in which balls roll to and fro."""

import math

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_colours
from cosmos_posttrain.worlds.scene import Scene, Shape, Thing, View, capitalised, draw_skin, enumerated

LENGTH, THICKNESS = 1.3, 0.04
"""Half extents of the plank."""
SHAPES: tuple[Shape, ...] = ("box", "ball", "cylinder")
SEGMENTS, RADIUS = 24, 1.1
"""Flat pieces of the half-pipe, and its inner radius."""


def tilted_plane(rng: Generator) -> Scene:
    """Draw one or two shapes at rest near the upper end of a plank, which none of them sticks to."""
    tilt = float(rng.uniform(15, 40))
    sine, cosine = math.sin(math.radians(tilt)), math.cos(math.radians(tilt))
    centre = LENGTH * sine + THICKNESS * cosine + 0.01
    things, bodies = [], ""
    phrases: dict[str, list[str]] = {}
    count = int(rng.integers(1, 3))
    for lane, colour in enumerate(draw_colours(rng, count)):
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        rolls = shape != "box"
        thing = Thing(
            colour=colour,
            shape=shape,
            size=tuple(
                float(extent) for extent in rng.uniform(0.11, 0.18, {"ball": 1, "cylinder": 2, "box": 3}[shape])
            ),
            skin=draw_skin(rng),
            # Above 2/7 tan(tilt) a ball, above 1/3 tan(tilt) a cylinder rolls; below tan(15 degrees) a box slides.
            friction=rng.uniform(0.5, 0.9) if rolls else rng.uniform(0.02, 0.2),
        )
        along, above = -LENGTH + 0.25, THICKNESS + (thing.size[2] if shape == "box" else thing.size[0]) + 1e-4
        across = 0.0 if count == 1 else 0.5 * (lane - 0.5)
        position = (cosine * along + sine * above, across, centre - sine * along + cosine * above)
        # A cylinder lies across the plank.
        bodies += thing.body(position, turn=(90.0, 0.0, 0.0) if shape == "cylinder" else (0.0, tilt, 0.0))
        things.append(thing)
        phrases.setdefault("roll" if rolls else "slide", []).append(thing.a_name)
    motions = enumerated(
        [f"{enumerated(names)} {verb if len(names) > 1 else verb + 's'}" for verb, names in phrases.items()]
    )
    plank = f'size="{LENGTH} 0.5 {THICKNESS}" pos="0 0 {centre:.5f}" euler="0 {tilt:.5f} 0"'
    return Scene(
        caption=capitalised(f"{motions} down a plank tilted by {tilt:.0f} degrees."),
        things=tuple(things),
        bodies=f'<geom type="box" {plank} friction="0.001" material="fixture"/>{bodies}',
        view=View(focus=(0.15, 0.0, 0.55), reach=1.4, elevation=(15.0, 35.0)),
        parameters={"tilt_degrees": tilt},
    )


def u_slope(rng: Generator) -> Scene:
    """Draw one or two balls at rest high on the sides of a half-pipe that lies along y."""
    middle = RADIUS + 2 * THICKNESS
    pipe = ""
    for piece in range(SEGMENTS):
        angle = math.pi * ((piece + 0.5) / SEGMENTS - 0.5)
        out = RADIUS + THICKNESS
        place = f"{out * math.sin(angle):.5f} 0 {middle - out * math.cos(angle):.5f}"
        half = (RADIUS + 2 * THICKNESS) * math.tan(math.pi / SEGMENTS / 2)
        size = f"{half:.5f} 0.5 {THICKNESS}"
        turn = f'euler="0 {-math.degrees(angle):.5f} 0"'
        pipe += f'<geom type="box" size="{size}" pos="{place}" {turn} friction="0.001" material="fixture"/>'
    count = int(rng.integers(1, 3))
    things, bodies = [], ""
    first = int(rng.integers(2))
    for place, colour in enumerate(draw_colours(rng, count)):
        radius = float(rng.uniform(0.12, 0.2))
        thing = Thing(colour=colour, shape="ball", size=(radius,), skin=draw_skin(rng))
        # On the middle of a piece, 49 to 79 degrees up, where it touches.
        angle = math.pi * (int(rng.integers(6, 11)) + 0.5) / SEGMENTS * (1 if (first + place) % 2 else -1)
        out = RADIUS - radius - 1e-4
        across = 0.0 if count == 1 else 0.44 * (place - 0.5)
        bodies += thing.body((out * math.sin(angle), across, middle - out * math.cos(angle)))
        things.append(thing)
    roll = "rolls" if count == 1 else "roll"
    return Scene(
        caption=capitalised(f"{enumerated([thing.a_name for thing in things])} {roll} to and fro in a half-pipe."),
        things=tuple(things),
        bodies=pipe + bodies,
        view=View(focus=(0.0, 0.0, 0.6), reach=1.3, side=25.0, elevation=(5.0, 25.0)),
        parameters={"radius": RADIUS},
    )
