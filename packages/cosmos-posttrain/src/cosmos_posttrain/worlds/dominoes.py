"""Dominoes: a ball rolls into a row of five to eight slabs."""

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_colours
from cosmos_posttrain.worlds.scene import Scene, Thing, View, capitalised, draw_skin
from cosmos_posttrain.worlds.stacks import NUMBERS

SLAB = (0.03, 0.15, 0.30)
"""Half extents in metres."""
PITCH = 0.28


def dominoes(rng: Generator) -> Scene:
    """Draw slabs 28 cm apart and a heavier ball that reaches the first at 2 m/s or more."""
    count = int(rng.integers(5, 9))
    first, *others = draw_colours(rng, count + 1)
    skin = draw_skin(rng)
    radius, speed = float(rng.uniform(0.18, 0.24)), float(rng.uniform(2.0, 2.6))
    ball = Thing(colour=first, shape="ball", size=(radius,), skin=draw_skin(rng))
    slabs = [
        Thing(colour=c, shape="box", noun="domino", size=SLAB, skin=skin, density=400.0, friction=0.5) for c in others
    ]
    start, middle = -PITCH * (count - 1) / 2, 0.15
    bodies = ball.body((start - SLAB[0] - radius - rng.uniform(0.1, 0.4), 0.0, radius))
    for place, slab in enumerate(slabs):
        bodies += slab.body((start + PITCH * place, 0.0, SLAB[2]))
    return Scene(
        caption=capitalised(f"{ball.a_name} rolls into a row of {NUMBERS[count]} dominoes, which topple one another."),
        things=(ball, *slabs),
        bodies=bodies,
        view=View(focus=(-middle, 0.0, 0.25), reach=0.6 + PITCH * count / 2, side=50.0, elevation=(12.0, 35.0)),
        velocities={ball.name: (speed, 0.0, 0.0, 0.0, speed / radius, 0.0)},
        parameters={"ball_speed": speed},
    )
