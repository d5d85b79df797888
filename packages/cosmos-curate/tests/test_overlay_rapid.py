"""RapidOCR, as it is installed, finds and reads burned-in text and nothing else; few frames, as each takes its time."""

import cv2
import numpy as np
import pytest

from cosmos_curate.media.frames import Frames
from cosmos_curate.overlay.reader import RapidText, network_paths
from cosmos_curate.overlay.stage import OverlayConfig, overlay_stage
from cosmos_curate.stage import Item, check_stage


@pytest.fixture(scope="module")
def reader():
    return RapidText().open()


def burned(frame, words, left, top):
    cv2.putText(frame, words, (left, top), cv2.FONT_HERSHEY_DUPLEX, 1.0, (0, 0, 0), 7, cv2.LINE_AA)
    cv2.putText(frame, words, (left, top), cv2.FONT_HERSHEY_DUPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
    return frame


def test_a_line_is_found_in_place_and_read(reader, picture):
    frame = burned(picture(540, 960), "Chapter one", 300, 480)
    quads = reader.find(frame)
    assert len(quads) == 1
    left, top = quads[0].min(0)
    right, bottom = quads[0].max(0)
    assert 285 < left < 310
    assert 470 < right < 520
    assert 440 < top < 465
    assert 475 < bottom < 505
    text, sure = reader.read(frame, quads[0])
    assert text.lower().replace(" ", "") == "chapterone"
    assert sure > 0.8


def test_pictures_without_text_have_none(reader, picture):
    for frame in (picture(360, 640), np.zeros((16, 16, 3), np.uint8)):
        assert reader.find(frame).shape == (0, 4, 2)


def test_networks_are_the_ones_that_the_package_ships():
    assert {path.suffix for path in network_paths().values()} == {".onnx"}
    assert {len(digest) for digest in RapidText().weights.values()} == {64}


def test_burned_in_text_is_told_from_text_of_the_scene(picture):
    config = OverlayConfig()
    ground = picture(460, 740, 5)

    def frames(picture):
        pixels = np.stack([picture[8 * i :, 12 * i :][:360, :640] for i in range(4)])
        return {config.sampling: Frames(pixels=pixels, times_s=np.arange(4) / 2)}

    scene = frames(burned(ground.copy(), "Old Street", 220, 200))
    over = frames(ground)
    for frame in over[config.sampling].pixels:
        burned(frame, "Breaking news", 200, 330)
    process = overlay_stage(config).open()
    item = Item(id="a", path="")
    assert process(item, scene)["text_overlay"] < 0.1
    assert "street" in process(item, scene)["text"].lower()
    found = process(item, over)
    assert found["text_overlay"] > 0.7
    assert found["text"].lower().replace(" ", "") == "breakingnews"
    check_stage(overlay_stage(config), item, over)
