import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cosmos_posttrain.worlds import load_mujoco, moving_camera
from cosmos_tokenizer import InputError


@pytest.fixture(scope="module")
def textures() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [
        moving_camera.texture_png(Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))) for _ in range(3)
    ]


@pytest.mark.parametrize("name", list(moving_camera.SCENES))
def test_a_seed_renders_one_film_that_moves(name: str, textures: list[bytes]) -> None:
    def film() -> np.ndarray:
        rng = np.random.default_rng(1)
        world = moving_camera.build_world(name, rng, textures)
        return moving_camera.render(world, moving_camera.draw_camera(world, rng, frames=3), size=24, fps=6.0)

    first = film()
    assert first.shape == (3, 24, 24, 3)
    assert first.std() > 5
    assert not np.array_equal(first[0], first[2])
    assert np.array_equal(first, film())


def test_training_runs_in_a_process_that_has_rendered() -> None:
    code = """
from cosmos_posttrain import worlds
import torch
worlds.check_renderer()
torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr[-2000:]) == (0, "")


def test_bodies_fall_under_gravity(textures: list[bytes]) -> None:
    mujoco = load_mujoco()
    world = moving_camera.build_world("free_fall", np.random.default_rng(3), textures)
    data = moving_camera.start(world)
    start = data.qpos[2]
    while data.time < 0.2:
        mujoco.mj_step(data.model, data)
    assert start - data.qpos[2] == pytest.approx(9.81 * data.time**2 / 2, rel=0.05)


def test_the_ball_topples_the_last_domino(textures: list[bytes]) -> None:
    mujoco = load_mujoco()
    world = moving_camera.build_world("dominoes", np.random.default_rng(4), textures)
    data = moving_camera.start(world)
    while data.time < 4:
        mujoco.mj_step(data.model, data)
    upright = data.xmat[-1].reshape(3, 3)[2, 2]
    assert abs(upright) < 0.7


def test_a_camera_stays_above_the_floor(textures: list[bytes]) -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        world = moving_camera.build_world("free_fall", rng, textures)
        path = moving_camera.draw_camera(world, rng, frames=60)
        height = path.lookat[:, 2] - path.distance * np.sin(np.radians(path.elevation))
        assert height.min() > 0.05


def test_clips_are_cut_from_shared_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    filmed = []

    def render(world, camera, *, size):  # noqa: ANN001, ANN202
        filmed.append(len(camera.distance))
        return np.zeros((len(camera.distance), size, size, 3), np.uint8)

    monkeypatch.setattr(moving_camera, "render", render)
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    made = list(moving_camera.clips(7, np.random.default_rng(5), [picture], frames=5, size=16, per_world=3))
    assert filmed == [15, 15, 5]
    assert [name for name, _ in made] == ["free_fall"] * 3 + ["dominoes"] * 3 + ["room"]
    assert all(clip.shape == (5, 16, 16, 3) for _, clip in made)


def test_an_unknown_scene_is_named(textures: list[bytes]) -> None:
    with pytest.raises(InputError, match="billiards"):
        moving_camera.build_world("billiards", np.random.default_rng(0), textures)
