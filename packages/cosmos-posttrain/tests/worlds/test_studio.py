"""Pictures, masks, matrices and states show the same thing."""

import colorsys
from collections.abc import Iterator

import numpy as np
import pytest

from cosmos_posttrain.worlds import SCENES, Film, Studio, Take, draw

SIZE = 64


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    with Studio(size=SIZE) as studio:
        yield studio


@pytest.fixture(scope="module")
def films(studio: Studio) -> dict[str, tuple[Take, Film]]:
    takes = {name: draw(name, seed=11, number=1, cameras=2) for name in SCENES}
    return {name: (take, studio.film(take, frames=2, fps=3)) for name, take in takes.items()}


def seen_at(take: Take, camera: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates of world points, and how deep they lie."""
    eye = take.cameras[camera]
    inside = (eye.world_to_camera() @ np.append(points, np.ones((len(points), 1)), axis=1).T)[:3]
    pixels = eye.intrinsics(SIZE) @ inside
    return (pixels[:2] / pixels[2]).T, pixels[2]


def test_a_mask_covers_the_place_where_the_matrices_put_the_thing(films: dict[str, tuple[Take, Film]]) -> None:
    checked = dict.fromkeys(films, 0)
    for name, (take, film) in films.items():
        for camera in range(2):
            for frame, masks in enumerate(film.masks[camera]):
                places, depths = seen_at(take, camera, film.states.position[frame])
                for number, (x, y) in enumerate(places, start=1):
                    if not (0 <= x < SIZE and 0 <= y < SIZE):
                        continue
                    shown = masks[int(y), int(x)]
                    if take.scene.things[number - 1].noun is None and shown:
                        assert shown == number or depths[shown - 1] < depths[number - 1], (name, camera, frame, number)
                        checked[name] += shown == number
    assert all(count for name, count in checked.items() if name != "gyroscope"), checked


def test_the_middle_of_a_balls_mask_is_where_the_ball_is(studio: Studio) -> None:
    takes = (draw("u-slope", seed=2, number=number) for number in range(1, 9))
    take = next(take for take in takes if len(take.scene.things) == 1)
    film = studio.film(take, frames=3, fps=6)
    for frame in range(3):
        rows, columns = np.nonzero(film.masks[0][frame])
        ((x, y),), (depth,) = seen_at(take, 0, film.states.position[frame])
        assert columns.mean() + 0.5 == pytest.approx(x, abs=0.5)
        assert rows.mean() + 0.5 == pytest.approx(y, abs=0.5)
        across = take.scene.things[0].size[0] / depth * take.cameras[0].intrinsics(SIZE)[0, 0]
        assert len(rows) == pytest.approx(np.pi * across**2, rel=0.1)


def test_things_have_hues_of_their_own_and_all_else_is_nearly_grey(films: dict[str, tuple[Take, Film]]) -> None:
    for name, (take, film) in films.items():
        picture, mask = film.videos[0][0].astype(float), film.masks[0][0]
        for number, thing in enumerate(take.scene.things, start=1):
            if (mask == number).sum() < 20:
                continue
            hue, saturation, _ = colorsys.rgb_to_hsv(*(np.median(picture[mask == number], axis=0) / 255))
            wanted, _, _ = colorsys.rgb_to_hsv(*thing.colour.rgb)
            apart = abs((hue - wanted + 0.5) % 1 - 0.5) * 360
            assert apart < 12, (name, thing.name, apart)
            assert saturation > 0.5
        levels = picture[mask == 0]
        grey = (levels.max(axis=-1) - levels.min(axis=-1)) / levels.max(axis=-1).clip(1)
        assert np.quantile(grey, 0.9) < 0.3, name


def test_what_moves_changes_the_picture_and_what_stands_does_not(films: dict[str, tuple[Take, Film]]) -> None:
    for name, (_, film) in films.items():
        for video, masks in zip(film.videos, film.masks, strict=True):
            assert video.shape == (2, SIZE, SIZE, 3)
            assert masks.shape == (2, SIZE, SIZE)
            assert video.std() > 5
            moved = np.abs(np.diff(video.astype(int), axis=0)).mean()
            assert (moved < 0.1) == (name == "stable-stack"), (name, moved)
            assert not np.array_equal(*film.videos)


def test_a_clip_is_the_same_whatever_was_filmed_before(studio: Studio, films: dict[str, tuple[Take, Film]]) -> None:
    for name in ("seesaw", "gyroscope"):
        again = studio.film(draw(name, seed=11, number=1), frames=2, fps=3)
        assert np.array_equal(again.videos[0], films[name][1].videos[0])
        assert np.array_equal(again.masks[0], films[name][1].masks[0])
    with Studio(size=SIZE) as other:
        alone = other.film(draw("gyroscope", seed=11, number=1), frames=2, fps=3)
    assert np.array_equal(alone.videos[0], films["gyroscope"][1].videos[0])
