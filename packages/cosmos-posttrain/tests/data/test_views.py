import numpy as np
import pytest
from PIL import Image

from cosmos_posttrain.data import Description, StreamConfig
from cosmos_posttrain.data.buckets import Shape
from cosmos_posttrain.data.views import crop, draw_box, take_view

SHAPE = Shape(media="video", side=64, frames=3, height=48, width=32)


class Ramps:
    """One clip in which red tells the row, green the column and blue the frame."""

    def __init__(self, frames: int, height: int, width: int, rate: float | None = 30.0) -> None:
        self.size, self.rate = (frames, height, width), rate

    def __len__(self) -> int:
        return 1

    def describe(self, index: int) -> Description:
        frames, height, width = self.size
        return Description(key="ramp", frames=frames, height=height, width=width, rate=self.rate, text="t")

    def read(self, index: int, first: int, count: int, step: int) -> np.ndarray:
        frames, height, width = self.size
        t, y, x = np.mgrid[:frames, :height, :width].astype(np.uint8)
        return np.stack([y, x, t], axis=-1)[first : first + (count - 1) * step + 1 : step]


def settings(**changes: object) -> StreamConfig:
    base: dict = {"batch": 1, "frames": (3,), "sides": (64,), "crop": 32, "unscaled": 1.0, "flip": 0.0, "reverse": 0.0}
    return StreamConfig(**(base | changes))


def test_an_unscaled_crop_is_a_piece_of_the_frames() -> None:
    shape = Shape(media="video", side=64, frames=3, height=32, width=32)
    starts = set()
    for seed in range(30):
        frames = take_view(Ramps(9, 70, 81), 0, seed, shape, settings()).frames
        y, x, t = frames[0, 0, 0].tolist()
        np.testing.assert_array_equal(frames, Ramps(9, 70, 81).read(0, 0, 9, 1)[t : t + 3, y : y + 32, x : x + 32])
        starts.add((y, x, t))
    assert min(s[0] for s in starts) < 8
    assert max(s[0] for s in starts) > 30
    assert {s[2] for s in starts} == set(range(7))


def test_flip_and_reversal_come_at_their_shares_and_turn_the_right_axes() -> None:
    shape = Shape(media="video", side=64, frames=3, height=32, width=32)
    mirrored = backwards = 0
    for seed in range(400):
        view = take_view(Ramps(3, 40, 40), 0, seed, shape, settings(flip=0.5, reverse=0.25)).frames.astype(int)
        assert (np.diff(view[..., 0], axis=1) == 1).all()
        across, along = np.diff(view[..., 1], axis=2), np.diff(view[..., 2], axis=0)
        assert abs(across).min() == abs(across).max() == abs(along).min() == abs(along).max() == 1
        mirrored += across[0, 0, 0] == -1
        backwards += along[0, 0, 0] == -1
    assert 160 < mirrored < 240
    assert 65 < backwards < 135


def test_steps_are_those_that_the_length_allows_and_set_the_rate() -> None:
    shape = Shape(media="video", side=64, frames=3, height=32, width=32)
    rates = set()
    for seed in range(40):
        view = take_view(Ramps(6, 40, 40), 0, seed, shape, settings(steps=(1, 2, 3)))
        step = int(view.frames[1, 0, 0, 2]) - int(view.frames[0, 0, 0, 2])
        assert view.rate == 30.0 / step
        rates.add(view.rate)
    assert rates == {30.0, 15.0}
    assert take_view(Ramps(6, 40, 40, None), 0, 0, shape, settings()).rate is None
    still = Shape(media="image", side=64, frames=1, height=32, width=32)
    assert take_view(Ramps(6, 40, 40), 0, 0, still, settings()).rate is None


@pytest.mark.parametrize("size", [(100, 133), (133, 100), (64, 64), (20, 31), (481, 641)])
def test_a_box_scales_the_short_side_and_stays_inside(size: tuple[int, int]) -> None:
    height, width = size
    scale = 64 / min(size)
    for seed in range(50):
        x, y, right, bottom = draw_box(size, SHAPE, np.random.default_rng(seed), unscaled=False, whole=False)
        assert 0 <= x < right <= width
        assert 0 <= y < bottom <= height
        assert right - x == pytest.approx(32 / scale, abs=1 / scale)
        assert bottom - y == pytest.approx(48 / scale, abs=1 / scale)


@pytest.mark.parametrize("size", [(48, 32), (96, 64), (100, 300), (300, 100), (17, 13)])
def test_a_whole_frame_is_scaled_no_more_than_covers_the_crop(size: tuple[int, int]) -> None:
    x, y, right, bottom = draw_box(size, SHAPE, np.random.default_rng(0), unscaled=False, whole=True)
    spare = [size[1] - (right - x), size[0] - (bottom - y)]
    assert min(spare) == pytest.approx(0, abs=1e-9)
    assert (right - x) / (bottom - y) == pytest.approx(32 / 48, rel=1e-9)


def test_scaling_a_box_is_scaling_and_then_cropping_but_for_the_edges() -> None:
    rng = np.random.default_rng(0)
    frame = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((160, 120)))
    whole = np.asarray(Image.fromarray(frame).resize((80, 60), Image.Resampling.LANCZOS))
    out = crop(frame[None], (20.0, 10.0, 84.0, 106.0), (48, 32))[0]
    difference = np.abs(out.astype(int) - whole[5:53, 10:42])
    assert difference[3:-3, 3:-3].max() <= 1


def test_a_view_depends_on_its_seed_alone() -> None:
    config = settings(unscaled=0.5, flip=0.5, reverse=0.5, steps=(1, 2))
    shape = Shape(media="video", side=64, frames=3, height=32, width=32)
    views = [take_view(Ramps(9, 70, 90), 0, seed, shape, config).frames for seed in (1, 2, 1)]
    np.testing.assert_array_equal(views[0], views[2])
    assert (views[0] != views[1]).any()
