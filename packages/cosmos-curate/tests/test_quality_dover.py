"""DOVER's input is what its export takes, and a file of it scores clips; a tiny network stands for the released one."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames
from cosmos_curate.quality.dover import Dover, fragments, views, whole
from cosmos_curate.quality.stage import QualityConfig, quality_stage
from cosmos_curate.stage import Item, check_stage

MEAN, DEVIATION = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


@pytest.fixture
def network(tmp_path):
    """Write a network that answers the mean of its views."""

    def write(inputs=("aes_view", "tech_view"), count="views"):
        values = [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, [count if name == "tech_view" else 1, 3, 32, 224, 224]
            )
            for name in inputs
        ]
        nodes = [helper.make_node("ReduceMean", [name], [f"{name}_score"], keepdims=0) for name in inputs]
        outputs = [helper.make_tensor_value_info(f"{name}_score", TensorProto.FLOAT, []) for name in inputs]
        graph = helper.make_graph(nodes, "tiny", values, outputs)
        path = tmp_path / f"{'-'.join(inputs)}-{count}.onnx"
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path)
        return str(path)

    return write


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (224, 224), (225, 500), (1000, 300)])
def test_fragments_are_patches_at_full_resolution_spread_over_the_picture(height, width):
    rows, columns = np.mgrid[:height, :width]
    place = np.stack([rows // 5, columns // 6, rows % 5 * 6 + columns % 6], -1).astype(np.uint8)[None]
    cut = fragments(place)[0].astype(int)
    row, column = cut[..., 0] * 5 + cut[..., 2] // 6, cut[..., 1] * 6 + cut[..., 2] % 6
    patches = np.stack([row, column]).reshape(2, 7, 32, 7, 32)
    for i in range(7):
        for j in range(7):
            top, left = patches[:, i, 0, j, 0]
            np.testing.assert_array_equal(patches[0, i, :, j], (top + np.arange(32))[:, None] + np.zeros(32, int))
            np.testing.assert_array_equal(patches[1, i, :, j], left + np.arange(32) + np.zeros((32, 1), int))
            assert i * height // 7 <= top <= (i + 1) * height / 7 - 32 + 1
            assert j * width // 7 <= left <= (j + 1) * width / 7 - 32 + 1


def test_views_are_normalised_and_in_order_of_time():
    pictures = np.arange(96, dtype=np.uint8)[:, None, None, None] + np.zeros((96, 230, 240, 3), np.uint8)
    found = views(pictures, 3)
    assert found.shape == (3, 3, 32, 224, 224)
    expected = ((np.arange(96)[:, None] - MEAN) / DEVIATION).reshape(3, 32, 3).transpose(0, 2, 1)
    np.testing.assert_allclose(found[:, :, :, 5, 200], expected, atol=1e-5)
    np.testing.assert_allclose(whole(pictures)[0, :, -1, 3, 3], (95 - MEAN) / DEVIATION, atol=1e-5)


def test_one_small_frame_fills_the_views():
    found = views(np.full((1, 16, 20, 3), 200, np.uint8), 2)
    np.testing.assert_allclose(
        found, np.broadcast_to(((200 - MEAN) / DEVIATION)[:, None, None, None], found.shape), atol=1e-5
    )


@pytest.mark.parametrize("inputs", [("tech_view",), ("aes_view", "tech_view")])
def test_a_file_of_dover_gives_the_quality(network, inputs):
    config = QualityConfig(scorer=Dover(path=network(inputs), views=1))
    stage = quality_stage(config)
    scores = []
    for level in (100, 110, 120):
        pixels = np.full((4, 32, 40, 3), level, np.uint8)
        pixels[:, :, :20, 0] += 10
        clip = Frames(pixels=pixels, times_s=np.arange(4.0))
        frames = dict.fromkeys(stage.samplings, clip)
        scores.append(stage.open()(Item(id="a", path=""), frames)["quality"])
    assert 0 <= scores[0] < scores[1] < scores[2] <= 100
    assert "dover" in stage.weights
    check_stage(stage, Item(id="a", path=""), frames)


def test_the_score_is_the_logistic_of_the_paper_authors(network):
    score = Dover(path=network(("tech_view",)), views=1).open()
    level = 114
    raw = float(np.mean((level - MEAN) / DEVIATION))
    pixels = np.full((1, 32, 32, 3), level, np.uint8)
    expected = 100 / (1 + np.exp(-(raw + 0.08285) / 0.03774))
    assert score(Frames(pixels=pixels, times_s=np.zeros(1))) == pytest.approx(expected, abs=0.5), (
        "the network sums millions of float32"
    )


def test_another_network_is_refused(network):
    with pytest.raises(InputError, match="picture"):
        Dover(path=network(("picture",))).open()
    with pytest.raises(InputError, match="made for 4 views"):
        Dover(path=network(count=4)).open()
    with pytest.raises(InputError, match="nowhere"):
        Dover(path="nowhere.onnx")
    with pytest.raises(InputError, match="views 0"):
        Dover(path=network(), views=0)
