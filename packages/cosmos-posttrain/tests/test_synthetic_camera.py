import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_posttrain import synthetic_camera as camera


def straight_track(velocity: tuple[float, float], frames: int = 4) -> camera.Track:
    centre = np.arange(frames)[:, None] * np.array(velocity)
    return camera.Track(centre=centre, step=np.ones(frames), roll=np.zeros(frames))


def random_photograph(seed: int, width: int = 211, height: int = 163) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_pan_of_whole_pixels_moves_the_picture_by_exactly_that() -> None:
    patch = torch.rand(3, 40, 60)
    seen = camera.sample(patch, np.array([-20.5, -12.5]), camera.view_points(straight_track((3.0, -1.0)), 16))
    torch.testing.assert_close(seen[0], patch[:, 5:21, 13:29], rtol=0, atol=1e-4)
    torch.testing.assert_close(seen[2], patch[:, 3:19, 19:35], rtol=0, atol=1e-4)


def test_a_quarter_turn_is_the_rotated_picture() -> None:
    patch, still = torch.rand(3, 16, 16), straight_track((0.0, 0.0), frames=1)
    turned = camera.Track(centre=still.centre, step=still.step, roll=np.array([np.pi / 2]))
    seen = camera.sample(patch, np.array([-7.5, -7.5]), camera.view_points(turned, 16))
    torch.testing.assert_close(seen[0], torch.rot90(patch, 1, (1, 2)), rtol=0, atol=1e-3)


def test_speeds_have_a_heavy_tail_that_ends_at_the_limit() -> None:
    rng = np.random.default_rng(0)
    tracks = [camera.draw_track(rng, frames=18) for _ in range(1500)]
    speeds = np.array([np.linalg.norm(np.diff(t.centre, axis=0), axis=1).max() for t in tracks])
    assert speeds.max() <= camera.FASTEST + 1e-9
    assert 0.08 < (speeds == 0).mean() < 0.18
    assert 0.08 < (speeds > 5).mean() < 0.3
    assert max(t.step.max() for t in tracks) <= 1


def test_shrinking_averages_detail_away_instead_of_aliasing_it() -> None:
    checks = np.indices((600, 600)).sum(axis=0) % 2 * 255
    photograph = Image.fromarray(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8))
    low, high = np.array([-40.0, -40.0]), np.array([40.0, 40.0])
    patch, _ = camera.cut_patch(photograph, np.random.default_rng(1), low, high, scale=3.3)
    assert patch.shape == (3, 80, 80)
    assert patch[:, 4:-4, 4:-4].std() < 0.03


@pytest.mark.parametrize("bar", [None, 0.7])
def test_an_occluder_is_opaque_inside_and_absent_outside(bar: float | None) -> None:
    waves = np.array([[0.1, 0.3], [0.05, 1.0]])
    occluder = camera.Occluder(centre=np.array([0.5, 0.5]), radius=6.0, waves=waves, bar=bar)
    opacity = camera.coverage(occluder, camera.view_points(straight_track((60.0, 0.0), frames=2), 41))
    assert opacity[0, 0, 20, 20] == 1
    assert opacity[0].min() == 0
    assert opacity.min() >= 0
    assert opacity.max() <= 1
    assert opacity[0].mean() < 0.6


def test_a_seed_gives_one_clip_of_the_asked_size() -> None:
    photographs = [random_photograph(i) for i in range(3)]
    first, again, other = (
        camera.film_photographs(photographs, np.random.default_rng(seed), frames=5, size=37) for seed in (7, 7, 8)
    )
    assert first.shape == (5, 37, 37, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_nearer_layer_moves_by_itself() -> None:
    rng = np.random.default_rng(3)
    background, foreground = camera.draw_layers(
        [random_photograph(0), random_photograph(1)], rng, straight_track((2.0, 0.0)), 24
    )
    assert background.occluder is None
    assert foreground.occluder is not None
    assert not np.allclose(np.diff(foreground.track.centre, axis=0), np.diff(background.track.centre, axis=0))
