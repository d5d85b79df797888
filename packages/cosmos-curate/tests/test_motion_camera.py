"""Tags and numbers of pictures seen along known camera paths."""

import cv2
import numpy as np
import pytest

from cosmos_curate.motion.camera import name_motion
from cosmos_curate.motion.config import MotionConfig
from cosmos_curate.motion.path import CameraPath, follow

CONFIG = MotionConfig()


def see(picture, motions, size=(108, 192)):
    """Return `T H W 1` luma along motions of the picture `T 4`: right and down in diagonals, log scale, clockwise."""
    height, width = size
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    diagonal, frames = np.hypot(height, width), []
    for right, down, growth, angle in motions:
        x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
        z = ((x - right * diagonal) + 1j * (y - down * diagonal)) * np.exp(-growth - 1j * angle)
        z *= 0.5 * min(gray.shape[0] / height, gray.shape[1] / width)
        across = (z.real + gray.shape[1] / 2).astype(np.float32)
        along = (z.imag + gray.shape[0] / 2).astype(np.float32)
        frames.append(cv2.remap(gray, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
    return np.stack(frames)[..., None]


def times(seconds=1.5, rate=8):
    return np.arange(round(seconds * rate) + 1) / rate


def steady(clock, speeds):
    """A motion at constant speeds, root mean square over the picture, in diagonals a second."""
    return np.outer(clock, np.array(speeds) * (1, 1, 12**0.5, 12**0.5))


def tagged(pixels, clock, config=CONFIG):
    return name_motion(follow(pixels, clock), config)


@pytest.fixture(scope="module")
def scene(picture):
    return picture(480, 640, seed=3)


AXES = {
    "pan left": (1, 0, 0, 0),
    "pan right": (-1, 0, 0, 0),
    "tilt up": (0, 1, 0, 0),
    "tilt down": (0, -1, 0, 0),
    "zoom in": (0, 0, 1, 0),
    "zoom out": (0, 0, -1, 0),
    "roll left": (0, 0, 0, 1),
    "roll right": (0, 0, 0, -1),
}


@pytest.mark.parametrize("speed", [0.012, 0.07, 0.3])
@pytest.mark.parametrize("name", AXES)
def test_one_motion_has_its_name_and_speed(scene, name, speed):
    clock = times()
    found = tagged(see(scene, steady(clock, np.array(AXES[name]) * speed)), clock)
    assert found.names == (name,)
    assert found.speed == pytest.approx(speed, rel=0.1)
    assert found.scene < 0.01 + 0.1 * speed


def test_left_in_the_picture_is_right_for_the_camera(scene):
    """By pixels alone, without this file's warp: the picture's content moves right when the camera pans left."""
    gray = cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY)
    clock = times(1.0)
    pixels = np.stack([gray[100:244, 200 - 3 * i : 456 - 3 * i] for i in range(len(clock))])[..., None]
    assert tagged(pixels, clock).names == ("pan left",)
    turned = np.stack([cv2.rotate(gray, cv2.ROTATE_90_CLOCKWISE)[100 - 3 * i : 300 - 3 * i, :200] for i in range(9)])
    assert tagged(turned[..., None], clock).names == ("tilt up",)


def test_two_motions_give_both_names_the_stronger_first(scene):
    clock = times()
    assert tagged(see(scene, steady(clock, (0.1, 0, -0.05, 0))), clock).names == ("pan left", "zoom out")
    assert tagged(see(scene, steady(clock, (0, 0.04, 0, -0.08))), clock).names == ("roll right", "tilt up")


def test_one_motion_after_another_gives_both(scene):
    clock = times(3.0)
    path = np.zeros((len(clock), 4))
    path[:, 0] = 0.1 * np.minimum(clock, 1.5)
    path[:, 1] = -0.06 * np.maximum(clock - 1.5, 0)
    assert tagged(see(scene, path), clock).names == ("pan left", "tilt down")


def test_a_glance_is_no_pan(scene):
    clock = times(6.0)
    path = np.zeros((len(clock), 4))
    path[:, 0] = 0.02 * np.clip((clock - 2) / 0.25, 0, 1)
    assert tagged(see(scene, path), clock).names == ("static",)


@pytest.mark.parametrize("speed", [0.03, 0.2])
def test_shake(scene, speed):
    clock = times(2.0)
    rng = np.random.default_rng(5)
    path = np.cumsum(rng.normal(size=(len(clock), 4)) * (1, 1, 0, 0.5), 0) * speed / 8 / 1.5
    path -= np.outer(np.linspace(0, 1, len(clock)), path[-1] - path[0])
    found = tagged(see(scene, path), clock)
    assert found.names[0] == "shake"
    # The window keeps a part of the sway, the calmest three quarters have 0.73 of the spread.
    assert found.shake == pytest.approx(0.55 * speed, rel=0.3)


def test_a_shaking_pan_is_both(scene):
    clock = times(2.0)
    path = steady(clock, (0.1, 0, 0, 0))
    path[:, 1] += 0.004 * (-1.0) ** np.arange(len(clock))
    assert set(tagged(see(scene, path), clock).names) == {"pan left", "shake"}


def test_static_with_noise_and_flicker(scene):
    clock = times()
    rng = np.random.default_rng(0)
    still = see(scene, steady(clock, (0, 0, 0, 0))).astype(float)
    found = tagged(np.clip(still + rng.normal(size=still.shape) * 6, 0, 255).astype(np.uint8), clock)
    assert found.names == ("static",)
    assert found.shake < 0.003
    light = rng.uniform(0.7, 1.1, (len(clock), 1, 1, 1))
    assert tagged(np.clip(still * light, 0, 255).astype(np.uint8), clock).names == ("static",)
    fade = np.linspace(1, 0.3, len(clock))[:, None, None, None]
    assert tagged((still * fade).astype(np.uint8), clock).names == ("static",)


def test_pan_through_flicker(scene):
    clock = times()
    moving = see(scene, steady(clock, (-0.05, 0, 0, 0))) * np.linspace(1, 0.5, len(clock))[:, None, None, None]
    assert tagged(moving.astype(np.uint8), clock).names == ("pan right",)


def test_an_object_before_a_still_camera(scene, picture):
    clock = times()
    pixels = see(scene, steady(clock, (0, 0, 0, 0)))
    thing = picture(64, 64, seed=9)[:48, :56, 0]
    for index in range(len(clock)):
        pixels[index, 30:78, 10 + 8 * index : 66 + 8 * index, 0] = thing
    found = tagged(pixels, clock)
    assert found.names == ("static",)
    # 56 x 48 of 192 x 108 pixels go 8 pixels in an eighth of a second; what it covers and uncovers moves as well.
    share, speed = 56 * 48 / (192 * 108), 64 / np.hypot(108, 192)
    assert 0.6 * share * speed < found.scene < 2.5 * share * speed
    assert found.speed < 0.004


def test_an_object_before_a_panning_camera(scene, picture):
    clock = times()
    pixels = see(scene, steady(clock, (0.06, 0, 0, 0)))
    thing = picture(64, 64, seed=9)[:48, :56, 0]
    for index in range(len(clock)):
        pixels[index, 30:78, 60:116, 0] = thing
    assert tagged(pixels, clock).names == ("pan left",)


@pytest.mark.parametrize(("size", "rate"), [((216, 384), 8), ((108, 192), 12), ((192, 108), 8), ((81, 145), 5)])
def test_numbers_do_not_hang_on_size_and_rate(scene, size, rate):
    clock = times(2.0, rate)
    found = tagged(see(scene, steady(clock, (0.06, 0.03, 0.03, 0))), clock)
    other = tagged(see(scene, steady(clock, (0.06, 0.03, 0.03, 0)), size), clock)
    assert other.names == found.names
    assert other.speed == pytest.approx(found.speed, rel=0.03)


def test_uneven_times(scene):
    rng = np.random.default_rng(4)
    clock = np.r_[0, np.cumsum(rng.uniform(0.04, 0.3, 14))]
    found = tagged(see(scene, steady(clock, (0, 0, 0.05, 0))), clock)
    assert found.names == ("zoom in",)
    assert found.speed == pytest.approx(0.05, rel=0.05)
    assert found.shake < 0.003


def test_a_flash_does_not_undo_a_pan(scene):
    clock = times()
    pixels = see(scene, steady(clock, (0.08, 0, 0, 0)))
    pixels[5] = 255
    found = tagged(pixels, clock)
    assert found.names == ("pan left",)
    assert found.speed == pytest.approx(0.08, rel=0.1)


def test_one_frame_two_frames_and_the_dark(scene):
    clock = times()
    pixels = see(scene, steady(clock, (0.08, 0, 0, 0)))
    assert tagged(pixels[:1], clock[:1]).names == ("static",)
    assert tagged(pixels[:2], clock[:2]).names == ("pan left",)
    black = tagged(pixels * 0, clock)
    assert black.names == ("static",)
    assert (black.speed, black.shake, black.scene) == (0, 0, 0)


@pytest.mark.parametrize("size", [(16, 16), (2, 2), (2, 400), (17, 31)])
def test_tiny_pictures(scene, size):
    clock = times(0.5)
    still = see(scene, steady(clock, (0, 0, 0, 0)), size)
    assert tagged(still, clock).names == ("static",)
    moving = tagged(see(scene, steady(clock, (0.1, 0, 0, 0)), size), clock)
    assert np.isfinite([moving.speed, moving.shake, moving.scene]).all()


def made_path(speeds, step=0.125, trust=1.0):
    n = len(speeds)
    return CameraPath(
        (np.arange(n) + 0.5) * step, np.full(n, step), np.asarray(speeds, float), np.full(n, trust), np.zeros(n)
    )


def test_a_steady_path_is_not_shaken_and_an_alternating_one_is_nothing_else():
    steady_path = made_path([[0.05, 0, 0, 0]] * 16)
    found = name_motion(steady_path, CONFIG)
    assert (found.names, found.shake) == (("pan left",), pytest.approx(0, abs=1e-9))
    shaken = name_motion(made_path([[0.05 * (-1) ** i, 0, 0, 0] for i in range(16)]), CONFIG)
    assert shaken.names == ("shake",)
    assert shaken.shake == pytest.approx(0.05, rel=0.15)


def test_a_slow_camera_in_a_busy_scene_is_no_statement():
    path = made_path([[0.01, 0, 0, 0]] * 16)
    path.rest[:] = 0.05
    assert name_motion(path, CONFIG).names == ("static",)
    assert name_motion(path, MotionConfig(against=0.1)).names == ("pan left",)


def test_settings_decide():
    path = made_path([[0.05, 0, 0.015, 0]] * 16)
    assert name_motion(path, CONFIG).names == ("pan left", "zoom in")
    assert name_motion(path, MotionConfig(beside=0.5)).names == ("pan left",)
    assert name_motion(path, MotionConfig(slow=0.1)).names == ("static",)
    half = made_path([[0.05, 0, 0, 0]] * 8 + [[0, 0, 0, 0]] * 24)
    assert name_motion(half, CONFIG).names[0] == "pan left"
    assert name_motion(half, MotionConfig(share=0.5)).names == ("static",)
    assert name_motion(half, MotionConfig(lasting_s=2.0)).names == ("static",)


def test_a_light_that_wanders_is_no_pan(scene):
    clock = times()
    still = see(scene, steady(clock, (0, 0, 0, 0))) * 0.5 + 60
    shade = 1 - 0.4 * (1 + np.sin(2 * np.pi * (np.arange(192) / 150 - clock[:, None])))
    assert tagged((still * shade[:, None, :, None]).astype(np.uint8), clock).names == ("static",)


def test_a_whip_pan_is_followed(scene):
    clock = times(1.0)
    speeds = follow(see(scene, steady(clock, (0.9, 0, 0, 0))), clock).speeds
    np.testing.assert_allclose(speeds, np.tile([0.9, 0, 0, 0], (8, 1)), atol=0.05)


def test_the_first_pair_of_a_fast_turn_is_exact(scene):
    clock = times(0.125)
    speeds = follow(see(scene, steady(clock, (0, 0, 0, 0.3))), clock).speeds
    np.testing.assert_allclose(speeds, [[0, 0, 0, 0.3]], atol=0.001)


def test_a_flash_and_a_cut_are_not_trusted(scene, picture):
    clock = times(1.0)
    pixels = see(scene, steady(clock, (0.05, 0, 0, 0)))
    pixels[2] = 255
    pixels[6:] = see(picture(480, 640, seed=8), steady(clock, (0.05, 0, 0, 0)))[6:]
    trust = follow(pixels, clock).trust
    assert trust[[1, 2, 5]].max() < 0.1
    assert trust[[0, 3, 4, 6, 7]].min() > 0.5
