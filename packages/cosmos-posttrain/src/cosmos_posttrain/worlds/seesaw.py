"""Seesaw: a box falls on the raised end of a plank and throws up a lighter one from the other end."""

import math

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_colours
from cosmos_posttrain.worlds.scene import Scene, Thing, View, capitalised, draw_skin

HALF, THICKNESS = 1.1, 0.03
"""Half extents of the plank."""


def seesaw(rng: Generator) -> Scene:
    """Draw a plank on a hinge, one end on the floor with a light box on it, and a heavy box above the other end."""
    height, drop = float(rng.uniform(0.38, 0.5)), float(rng.uniform(0.3, 0.7))
    colours = draw_colours(rng, 3)
    extents = (HALF, 0.25, THICKNESS)
    plank = Thing(colour=colours[0], shape="box", noun="seesaw", size=extents, skin=draw_skin(rng), density=100.0)
    small, large = float(rng.uniform(0.11, 0.13)), float(rng.uniform(0.16, 0.19))
    light = Thing(colour=colours[1], shape="box", size=(small,) * 3, skin=draw_skin(rng), friction=1.0)
    heavy = Thing(colour=colours[2], shape="box", size=(large,) * 3, skin=draw_skin(rng), friction=1.0)
    # The lower edge of the left end touches the floor: HALF sin + THICKNESS cos = height.
    tilt = math.asin((height - 1e-3) / math.hypot(HALF, THICKNESS)) - math.atan(THICKNESS / HALF)
    sine, cosine = math.sin(tilt), math.cos(tilt)
    along, above = -HALF + small + 0.02, THICKNESS + small + 1e-4
    bodies = f"""<body name="stand"><geom type="box" size="0.06 0.2 {height / 2:.5f}" pos="0 0 {height / 2:.5f}"
material="fixture"/></body><body name="{plank.name}" pos="0 0 {height:.5f}" euler="0 {-math.degrees(tilt):.5f} 0">
<joint type="hinge" axis="0 1 0"/>{plank.geom()}</body>"""
    start = (cosine * along - sine * above, 0.0, height + sine * along + cosine * above)
    bodies += light.body(start, turn=(0.0, -math.degrees(tilt), 0.0))
    far = HALF - large - 0.02
    bodies += heavy.body((cosine * far, 0.0, height + sine * HALF + THICKNESS + large + drop))
    sentence = f"{heavy.a_name} falls on the raised end of {plank.a_name} and throws up {light.a_name}."
    return Scene(
        caption=capitalised(sentence),
        things=(plank, light, heavy),
        bodies=bodies,
        view=View(focus=(0.0, 0.0, 0.8), reach=1.4, side=30.0),
        extra=f'<contact><exclude body1="stand" body2="{plank.name}"/></contact>',  # or the plank locks
        parameters={"drop": drop, "tilt_degrees": math.degrees(tilt)},
    )
