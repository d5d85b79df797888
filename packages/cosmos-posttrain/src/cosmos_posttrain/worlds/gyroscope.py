"""Gyroscope: a spinning disc at the end of a rod whose other end rests on a pole, circling instead of falling."""

import math

from numpy.random import Generator

from cosmos_posttrain.worlds.colours import draw_colours
from cosmos_posttrain.worlds.scene import Scene, Thing, View, draw_skin

GRAVITY = 9.81


def gyroscope(rng: Generator) -> Scene:
    """Draw a disc of 60 to 120 rad/s that begins with the rate of steady precession, so that it does not nod.

    With moments of inertia I1 and I3 about the pivot, spin w along the rod, and the rod at angle a from the upright,
    that rate P solves I1 cos(a) P^2 - I3 w P + m g l = 0; the slow root is taken, near m g l / (I3 w).
    """
    (colour,) = draw_colours(rng, 1)
    radius, half, mass = float(rng.uniform(0.2, 0.28)), 0.03, 2.0
    arm, height = float(rng.uniform(0.3, 0.4)), float(rng.uniform(0.7, 0.9))
    spin, lean, turn = float(rng.uniform(60, 120)), float(rng.uniform(65, 105)), float(rng.uniform(0, 360))
    thing = Thing(colour=colour, shape="cylinder", noun="gyroscope", size=(radius, half), skin=draw_skin(rng))
    axial = mass * radius**2 / 2
    across = mass * (radius**2 / 4 + half**2 / 3)
    pull, cosine = mass * GRAVITY * arm, math.cos(math.radians(lean))
    rate = 2 * pull / (axial * spin + math.sqrt((axial * spin) ** 2 - 4 * (across + mass * arm**2) * cosine * pull))
    # Leaning about y first, then turned about z.
    half_turn, half_lean = math.radians(turn) / 2, math.radians(lean) / 2
    quaternion = (
        math.cos(half_turn) * math.cos(half_lean),
        -math.sin(half_turn) * math.sin(half_lean),
        math.cos(half_turn) * math.sin(half_lean),
        math.sin(half_turn) * math.cos(half_lean),
    )
    inertia = f'<inertial pos="0 0 {arm:.5f}" mass="{mass}" diaginertia="{across:.8f} {across:.8f} {axial:.8f}"/>'
    bodies = f"""<geom type="capsule" fromto="0 0 0 0 0 {height - 0.05:.5f}" size="0.03" material="fixture"/>
<body name="{thing.name}" pos="0 0 {height:.5f}" quat="{" ".join(map(str, quaternion))}">
<joint type="ball"/>{inertia}
<geom type="capsule" fromto="0 0 0 0 0 {arm + 0.06:.5f}" size="0.02" {thing.paint()} contype="0" conaffinity="0"/>
<geom type="cylinder" size="{radius:.5f} {half}" pos="0 0 {arm:.5f}" {thing.paint()} contype="0" conaffinity="0"/>
</body>"""
    return Scene(
        caption=f"A {colour.name} gyroscope spins at the end of a rod and circles around its pole without falling.",
        things=(thing,),
        bodies=bodies,
        view=View(focus=(0.0, 0.0, height - 0.1), reach=0.75, side=180.0),
        velocities={thing.name: (-rate * math.sin(math.radians(lean)), 0.0, spin)},
        integrator="RK4",  # the others make a fast ball joint unstable, or precess at the wrong rate
        parameters={"spin": spin, "precession": rate, "lean_degrees": lean, "arm": arm, "mass": mass},
    )
