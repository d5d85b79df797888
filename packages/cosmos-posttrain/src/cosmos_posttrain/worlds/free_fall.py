"""Free fall: one to three shapes let go one to two metres above the floor."""

import math

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_colours
from cosmos_posttrain.worlds.scene import TYPES, Scene, Thing, View, capitalised, draw_skin, enumerated


def free_fall(rng: Generator) -> Scene:
    """Draw shapes beside one another, turned at random and turning slowly, at rest otherwise."""
    count = int(rng.integers(1, 4))
    things, bodies, velocities = [], "", {}
    for place, colour in enumerate(draw_colours(rng, count)):
        shape = list(TYPES)[int(rng.integers(len(TYPES)))]
        extents = {"ball": 1, "cylinder": 2, "capsule": 2}.get(shape, 3)
        size = tuple(float(extent) for extent in rng.uniform(0.12, 0.22, extents))
        thing = Thing(colour=colour, shape=shape, size=size, skin=draw_skin(rng), bounce=rng.uniform(0.2, 1.0))
        bound = sum(size) if shape == "capsule" else math.hypot(*size)
        across = 0.85 * (place - (count - 1) / 2) + rng.uniform(-0.05, 0.05)
        position = (across, rng.uniform(-0.3, 0.3), rng.uniform(1.0, 2.0) + bound)
        first, second, third = rng.uniform(0, 360, 3)
        bodies += thing.body(position, turn=(first, second, third))
        velocities[thing.name] = (0.0, 0.0, 0.0, *rng.normal(0, 1.0, 3))
        things.append(thing)
    fall = "falls" if count == 1 else "fall"
    return Scene(
        caption=capitalised(f"{enumerated([thing.a_name for thing in things])} {fall} to the floor."),
        things=tuple(things),
        bodies=bodies,
        view=View(focus=(0.0, 0.0, 1.0), reach=1.4),
        velocities=velocities,
        integrator="RK4",  # exact for a parabola, where a first-order step is late by dt / t
    )
