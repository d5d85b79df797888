"""Each scene moves as mechanics says, and what is said of it is so; nothing is rendered here."""

import math
import re

import numpy as np
import pytest

from cosmos_posttrain.worlds import SCENES, draw, simulate
from cosmos_posttrain.worlds.scene import Scene
from cosmos_posttrain.worlds.stacks import NUMBERS

G = 9.81


def drawn(name: str, *, count: int, seed: int = 7) -> list[Scene]:
    return [draw(name, seed=seed, number=number).scene for number in range(1, count + 1)]


def up_axes(orientation: np.ndarray) -> np.ndarray:
    """The height of each body's own z axis."""
    _, x, y, _ = np.moveaxis(orientation, -1, 0)
    return 1 - 2 * (x**2 + y**2)


def test_things_fall_freely_until_they_meet_the_floor() -> None:
    for scene in drawn("free-fall", count=4):
        states = simulate(scene, frames=31, fps=100)
        t = np.arange(31)[1:, None] / 100
        fallen = states.position[0, :, 2] - states.position[1:, :, 2]
        np.testing.assert_allclose(fallen, np.broadcast_to(G * t**2 / 2, fallen.shape), rtol=0.01)


def test_shapes_slide_and_roll_down_a_plane_at_the_rate_of_friction_and_inertia() -> None:
    seen = set()
    for scene in drawn("tilted-plane", count=8):
        tilt = math.radians(scene.parameters["tilt_degrees"])
        states = simulate(scene, frames=16, fps=50)
        moved = np.linalg.norm(states.position[-1] - states.position[0], axis=-1)
        for thing, distance in zip(scene.things, moved, strict=True):
            pull = {
                "ball": 5 / 7 * math.sin(tilt),
                "cylinder": 2 / 3 * math.sin(tilt),
                "box": math.sin(tilt) - thing.friction * math.cos(tilt),
            }[thing.shape]
            assert distance == pytest.approx(G * pull * 0.3**2 / 2, rel=0.03), thing.name
            seen.add(thing.shape)
    assert seen == {"ball", "cylinder", "box"}


def test_a_ball_in_a_half_pipe_swings_as_a_pendulum_that_rolls() -> None:
    for scene in [scene for scene in drawn("u-slope", count=8) if len(scene.things) == 1][:3]:
        states = simulate(scene, frames=201, fps=100)
        across, (radius,) = states.position[:, 0, 0], scene.things[0].size
        path = scene.parameters["radius"] - radius
        angle, speed, t, dt = math.asin(abs(across[0]) / path), 0.0, 0.0, 1e-4
        while angle > 0:
            speed -= 5 / 7 * G / path * math.sin(angle) * dt
            angle, t = angle + speed * dt, t + dt
        crossed = np.argmax(np.sign(across) != np.sign(across[0])) / 100
        assert crossed == pytest.approx(t, rel=0.05)
        assert -across[-1] * across[0] > 0 or np.abs(across).max() <= path
        assert np.max(-across * np.sign(across[0])) > 0.6 * abs(across[0])
        assert np.abs(across).max() < scene.parameters["radius"]


def test_a_stable_stack_stays_and_an_unstable_one_falls() -> None:
    for scene in drawn("stable-stack", count=4):
        position = simulate(scene, frames=13, fps=4).position
        assert np.abs(position - position[0]).max() < 2e-3
    for scene in drawn("unstable-stack", count=4):
        position = simulate(scene, frames=13, fps=4).position
        assert position[-1, -1, 2] < 0.6 * position[0, -1, 2]


def test_the_ball_topples_every_domino_in_turn() -> None:
    for scene in drawn("dominoes", count=3):
        upright = up_axes(simulate(scene, frames=91, fps=30).orientation)[:, 1:]
        assert (np.abs(upright[-1]) < 0.5).all()
        fell = np.argmax(upright < 0.95, axis=0)
        assert (np.diff(fell) >= 0).all()
        assert 0 < fell[0] < fell[-1]


def test_the_heavy_box_tips_the_seesaw_and_throws_the_light_one_up() -> None:
    for scene in drawn("seesaw", count=4):
        states = simulate(scene, frames=45, fps=30)
        tilt = 2 * np.arctan2(states.orientation[:, 0, 2], states.orientation[:, 0, 0])
        assert tilt[0] == pytest.approx(-math.radians(scene.parameters["tilt_degrees"]), abs=0.01)
        assert tilt.max() > 0.2
        assert states.position[:, 1, 2].max() > states.position[0, 1, 2] + 0.5
        before = states.position[: int(30 * math.sqrt(2 * scene.parameters["drop"] / G)) - 2, :2]
        assert np.abs(before - before[0]).max() < 5e-3


def test_a_gyroscope_precesses_at_the_predicted_rate_and_does_not_nod() -> None:
    for scene in drawn("gyroscope", count=3):
        states = simulate(scene, frames=31, fps=30)
        east, north = states.position[:, 0].T[:2]
        turned = np.unwrap(np.arctan2(north, east))
        rate = turned[-1] - turned[0]
        known, radius = scene.parameters, scene.things[0].size[0]
        torque_over_spin = known["mass"] * G * known["arm"] / (known["mass"] * radius**2 / 2 * known["spin"])
        assert rate == pytest.approx(known["precession"], rel=0.01)
        assert rate == pytest.approx(torque_over_spin, rel=0.05)
        assert np.ptp(states.position[:, 0, 2]) < 0.01


@pytest.mark.parametrize("name", list(SCENES))
def test_energy_does_not_grow(name: str) -> None:
    for scene in drawn(name, count=3, seed=1):
        energy = simulate(scene, frames=26, fps=12.5).energy
        assert np.isfinite(energy).all()
        assert energy.max() <= energy[0] + 0.001 * abs(energy[0])


@pytest.mark.parametrize("name", list(SCENES))
def test_a_clip_is_its_seed_and_number(name: str) -> None:
    first, again = (draw(name, seed=3, number=2, cameras=count) for count in (1, 3))
    assert first.scene == again.scene
    assert first.backdrop == again.backdrop
    assert np.array_equal(first.cameras[0].world_to_camera(), again.cameras[0].world_to_camera())
    assert len({draw(name, seed=s, number=n).scene.bodies for s, n in ((3, 1), (3, 2), (4, 2))}) == 3
    states = [simulate(first.scene, frames=6, fps=24) for _ in range(2)]
    assert np.array_equal(states[0].position, states[1].position)
    assert np.array_equal(states[0].angular_velocity, states[1].angular_velocity)


def test_frames_lie_whole_steps_apart_at_any_rate() -> None:
    (scene,) = drawn("free-fall", count=1)
    for fps in (7.3, 24, 29.97, 400):
        frames = int(0.3 * fps) + 1
        fallen = np.diff(simulate(scene, frames=frames, fps=fps).position[[0, -1], 0, 2])
        assert -fallen == pytest.approx(G * ((frames - 1) / fps) ** 2 / 2, rel=1e-6)


@pytest.mark.parametrize("name", list(SCENES))
def test_captions_are_one_line_about_the_things_that_move(name: str) -> None:
    for scene in drawn(name, count=6):
        caption, colours = scene.caption, [thing.colour.name for thing in scene.things]
        assert re.fullmatch(r"[A-Z][a-z0-9 ,-]+\.", caption), caption
        assert len(set(colours)) == len(colours)
        if name == "dominoes":
            assert f"{colours[0]} ball" in caption
            assert f"{NUMBERS[len(colours) - 1]} dominoes" in caption
        else:
            assert [word for word in re.findall(r"\w+", caption) if word in colours] == sorted(
                colours, key=caption.index
            )
