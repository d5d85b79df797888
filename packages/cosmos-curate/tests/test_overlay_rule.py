"""Which text was laid over: told by what moves, with a reader that finds text by its colour and costs nothing."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from cosmos_curate.content.heads import Head
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames
from cosmos_curate.overlay.boxes import areas, in_margin, overlap, same_line
from cosmos_curate.overlay.rule import link
from cosmos_curate.overlay.stage import OverlayConfig, overlay_stage
from cosmos_curate.stage import Item, check_stage

INK = (254, 255, 3)
SIZE = (360, 640)


class Ink:
    """Finds what is written in INK and reads its width; counts how often it is asked."""

    def __init__(self):
        self.found = self.read_count = 0

    def find(self, picture):
        self.found += 1
        mask = cv2.dilate((picture == INK).all(2).astype(np.uint8), np.ones((9, 25), np.uint8))
        stats = cv2.connectedComponentsWithStats(mask)[2][1:]
        quads = [[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for x, y, w, h, _ in stats.tolist()]
        return np.array(quads, np.float32).reshape(-1, 4, 2)

    def read(self, picture, quad):
        self.read_count += 1
        return f"{int(quad[1, 0] - quad[0, 0])} wide", 0.9


@dataclass(frozen=True)
class InkBackend:
    reader: Ink | None = None
    settings = {"name": "ink"}
    weights = {}

    def open(self):
        return self.reader or Ink()


CONFIG = OverlayConfig(reader=InkBackend())


def score(pixels, config=CONFIG, columns=None):
    frames = Frames(pixels=pixels, times_s=np.arange(len(pixels)) / 2)
    return overlay_stage(config).open()(Item(id="a", path="", columns=columns or {}), {config.sampling: frames})


@pytest.fixture(scope="module")
def ground(picture):
    return picture(SIZE[0] + 200, SIZE[1] + 200)


def write(picture, words="SOME WORDS", left=200, top=180, size=1.2):
    cv2.putText(picture, words, (left, top), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 3)
    return picture


def filmed(ground, step, count=6):
    """A camera that moves by so many pixels a sample, down and right."""
    return np.stack([ground[100 + step * i :, 100 + step * i :][: SIZE[0], : SIZE[1]].copy() for i in range(count)])


@pytest.mark.parametrize("step", [2, 16])
def test_text_before_a_moving_picture_is_laid_over(ground, step):
    found = score(np.stack([write(frame) for frame in filmed(ground, step)]))
    assert found["text_overlay"] > 0.9
    assert found["text_area"] > 0.02
    assert found["text"].endswith("wide")


@pytest.mark.parametrize("step", [1, 2, 5, 16])
def test_text_that_moves_with_the_picture_is_of_the_scene(ground, step):
    scene = write(ground.copy(), left=300, top=300)
    found = score(filmed(scene, step))
    assert found["text_overlay"] < 0.1
    assert found["text_area"] > 0.02


def test_both_are_told_apart_in_one_picture(ground):
    scene = write(ground.copy(), "STREET", left=300, top=250)
    frames = np.stack([write(frame, "SUB", 280, 330, 1) for frame in filmed(scene, 6)])
    assert score(frames)["text_overlay"] > 0.7
    assert len(score(frames)["text"].splitlines()) == 2


@pytest.mark.parametrize(("left", "top"), [(560, 30), (560, 350), (10, 30)])
def test_a_logo_in_a_corner_counts_by_its_size(ground, left, top):
    found = score(np.stack([write(frame, "TV", left, top, 0.6) for frame in filmed(ground, 6)]))
    assert 0.3 < found["text_overlay"] < 1


def test_where_nothing_moves_stability_proves_nothing(ground):
    sign = score(np.repeat(write(filmed(ground, 0, 1)[0])[None], 6, 0))
    subtitle = score(np.repeat(write(filmed(ground, 0, 1)[0], top=340)[None], 6, 0))
    assert sign["text_overlay"] == pytest.approx(0.2)
    assert subtitle["text_overlay"] == pytest.approx(0.5)


def test_light_that_changes_is_no_motion(ground):
    still = write(filmed(ground, 0, 1)[0]).astype(np.float32)
    ink = (still == INK).all(2)
    frames = np.stack([np.clip(still * 0.8 + 8 * i, 0, 250) for i in range(6)]).astype(np.uint8)
    frames[:, ink] = INK
    assert score(frames)["text_overlay"] == pytest.approx(0.2)


def test_a_thing_that_moves_far_from_a_sign_proves_nothing(ground):
    frames = np.repeat(write(filmed(ground, 0, 1)[0], left=350)[None], 6, 0)
    for index, frame in enumerate(frames):
        cv2.circle(frame, (60, 60 + 30 * index), 30, (240, 240, 20), -1)
    assert score(frames)["text_overlay"] == pytest.approx(0.2)


def test_a_title_upon_an_even_ground_is_laid_over():
    frames = np.stack([write(np.full((*SIZE, 3), 20, np.uint8)) for _ in range(4)])
    assert score(frames)["text_overlay"] == pytest.approx(0.8)


def test_subtitles_that_follow_one_another_count_as_one_line(ground):
    frames = filmed(ground, 6)
    for index, frame in enumerate(frames):
        words = ("WHO IS IT", "NOBODY", "COME IN")[index % 3]
        width = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 1, 3)[0][0]
        write(frame, words, (SIZE[1] - width) // 2, 335, 1)
    assert score(frames)["text_overlay"] > 0.8


def test_half_of_the_time_counts_half(ground):
    frames = filmed(ground, 6, 8)
    for frame in frames[:4]:
        write(frame)
    assert score(frames)["text_overlay"] == pytest.approx(0.5, abs=0.05)


def test_a_clip_without_text_costs_its_probes_alone(ground):
    reader = Ink()
    config = OverlayConfig(reader=InkBackend(reader))
    assert score(filmed(ground, 3), config) == {"text_overlay": 0.0, "text_area": 0.0, "text": ""}
    assert (reader.found, reader.read_count) == (3, 0)


def test_text_that_stays_is_read_once(ground):
    reader = Ink()
    score(np.stack([write(frame) for frame in filmed(ground, 3)]), OverlayConfig(reader=InkBackend(reader)))
    assert (reader.found, reader.read_count) == (6, 1)


class Doubtful(Ink):
    def read(self, picture, quad):
        return "?", 0.3


def test_what_cannot_be_read_is_no_text(ground):
    config = OverlayConfig(reader=InkBackend(Doubtful()))
    found = score(np.stack([write(frame) for frame in filmed(ground, 3)]), config)
    assert found == {"text_overlay": 0.0, "text_area": 0.0, "text": ""}


@pytest.mark.parametrize("shape", [(1, 360, 640, 3), (2, 16, 16, 3), (3, 90, 70, 1)])
@pytest.mark.parametrize("words", [True, False])
def test_the_stage_keeps_its_word(picture, shape, words):
    count, height, width, channels = shape
    pixels = np.stack([picture(height, width, seed) for seed in range(count)])
    if words:
        pixels = np.stack([write(frame, left=2, top=height - 3) for frame in pixels])
    frames = Frames(pixels=pixels[..., :channels], times_s=np.arange(float(count)))
    check_stage(overlay_stage(CONFIG), Item(id="a", path=""), {CONFIG.sampling: frames})


@pytest.fixture
def head(tmp_path):
    rng = np.random.default_rng(0)
    made = Head(
        labels=("clean", "overlay"),
        mean=np.zeros(8, np.float32),
        scale=np.ones(8, np.float32),
        hidden_weight=rng.normal(size=(8, 4)).astype(np.float32),
        hidden_bias=np.zeros(4, np.float32),
        output_weight=rng.normal(size=(4, 2)).astype(np.float32),
        output_bias=np.zeros(2, np.float32),
    )
    made.save(tmp_path / "head.npz")
    return made, tmp_path / "head.npz"


def test_a_head_judges_in_place_of_the_rule(ground, head):
    made, path = head
    config = OverlayConfig(reader=InkBackend(), head=path)
    stage = overlay_stage(config)
    assert stage.reads == ("embedding",)
    assert stage.weights == {"overlay head": made.sha256}
    embedding = np.random.default_rng(1).normal(size=8).astype(np.float16)
    found = score(filmed(ground, 3), config, {"embedding": embedding})
    assert found["text_overlay"] == pytest.approx(float(made.probabilities(embedding[None].astype(np.float32))[0, 1]))
    assert score(filmed(ground, 3), config, {"embedding": None})["text_overlay"] is None


def test_a_head_of_other_labels_is_refused(head, tmp_path):
    import dataclasses

    dataclasses.replace(head[0], labels=("dog", "cat")).save(tmp_path / "other.npz")
    with pytest.raises(InputError, match="dog, cat"):
        overlay_stage(OverlayConfig(reader=InkBackend(), head=tmp_path / "other.npz"))


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"most": 0}, {"probes": 0}, {"short_side": 10}, {"sure": 1.5}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        OverlayConfig(**wrong)


def test_geometry_of_boxes():
    one, other = np.array([0, 0, 10, 10], np.float32), np.array([5, 0, 15, 10], np.float32)
    assert overlap(one, other) == pytest.approx(1 / 3)
    assert overlap(one, one + 20) == 0
    turned = np.array([[[5, 0], [10, 5], [5, 10], [0, 5]]], np.float32)
    assert areas(turned)[0] == pytest.approx(50)
    assert in_margin(np.array([0, 85, 10, 95], np.float32), 100)
    assert not in_margin(np.array([0, 45, 10, 55], np.float32), 100)
    line = np.array([30, 85, 70, 95], np.float32)
    assert same_line(line, np.array([40, 85, 60, 95], np.float32), (100, 100))
    assert not same_line(line, np.array([10, 85, 40, 95], np.float32), (100, 100))


def test_links_bridge_one_missing_sample_and_no_more():
    box, none = np.array([[10, 10, 50, 20]], np.float32), np.zeros((0, 4), np.float32)
    assert [track.samples for track in link([box, none, box, none, none, box], SIZE)] == [[0, 2], [5]]
