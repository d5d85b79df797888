"""Aesthetics by plug-in: nothing without a model, both layouts with tiny ones, and models that do not fit."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cosmos_curate import InputError
from cosmos_curate.content.aesthetics import AestheticConfig, aesthetic_stage, prepare
from cosmos_curate.content.linear import load_linear
from cosmos_curate.media.frames import Frames
from cosmos_curate.stage import Item, check_stage

ITEM = Item(id="a", path="a.mp4")
PLAIN = {"mean": (0.0, 0.0, 0.0), "deviation": (1.0, 1.0, 1.0)}


def write_model(
    path: Path, *, side: int | str = 8, batch: int | str = "n", flat: bool = True, kind: int = TensorProto.FLOAT
) -> str:
    """A network that gives the mean of each colour, `N 3`, or with `flat` that of all, `N`."""
    axes = numpy_helper.from_array(np.array([1, 2, 3] if flat else [2, 3], np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["out"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("frames", kind, [batch, 3, side, side])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch] if flat else [batch, 3])],
        [axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return str(path)


def clip(config: AestheticConfig, levels: list[int], height: int = 8, width: int = 8) -> dict:
    pixels = np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])
    return {config.sampling: Frames(pixels=pixels, times_s=np.arange(len(levels), dtype=np.float64))}


def test_without_a_model_there_is_no_score_and_no_frame_is_asked_for() -> None:
    stage = aesthetic_stage(AestheticConfig())
    check_stage(stage, ITEM, {})
    assert stage.open()(ITEM, {}) == {"aesthetic": None}
    assert stage.samplings == ()


@pytest.mark.parametrize("batch", ["n", 1])
def test_the_least_or_the_mean_of_frames_is_told(tmp_path: Path, batch: int | str) -> None:
    model = write_model(tmp_path / "model.onnx", batch=batch)
    for reduction, expected in (("min", 51 / 255), ("mean", 136 / 255)):
        config = AestheticConfig(model=model, side=8, reduction=reduction, **PLAIN)
        check_stage(aesthetic_stage(config), ITEM, clip(config, [255, 51, 102]))
        found = aesthetic_stage(config).open()(ITEM, clip(config, [255, 51, 102]))
        assert found["aesthetic"] == pytest.approx(expected, abs=1e-6)
        one = aesthetic_stage(config).open()(ITEM, clip(config, [51], 16, 31))
        assert one["aesthetic"] == pytest.approx(51 / 255, abs=1e-6)


def predictor(folder: Path, layout: str) -> tuple[str, np.ndarray, float]:
    """Linear weights over three numbers in each layout, and the one map that they are."""
    rng = np.random.default_rng(4)
    if layout == "one layer":
        weight, bias = rng.normal(size=(1, 3)).astype(np.float32), rng.normal(size=1).astype(np.float32)
        torch.save({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}, folder / "head.pth")
        return str(folder / "head.pth"), weight[0], float(bias[0])
    sizes = {"layers.0": (5, 3), "layers.2": (4, 5), "layers.10": (1, 4)}
    arrays = {}
    for name, shape in sizes.items():
        arrays[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    weight, bias = np.eye(3), np.zeros(3)
    for name in sizes:
        weight, bias = arrays[f"{name}.weight"] @ weight, arrays[f"{name}.weight"] @ bias + arrays[f"{name}.bias"]
    if layout == "npz":
        np.savez(folder / "head.npz", **arrays)
        return str(folder / "head.npz"), weight[0], float(bias[0])
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "head.pth")
    return str(folder / "head.pth"), weight[0], float(bias[0])


@pytest.mark.parametrize("layout", ["one layer", "layers", "npz"])
def test_an_encoder_with_linear_weights_is_a_scorer(tmp_path: Path, layout: str) -> None:
    linear, weight, bias = predictor(tmp_path, layout)
    model = write_model(tmp_path / "encoder.onnx", flat=False)
    config = AestheticConfig(model=model, linear=linear, side=8, **PLAIN)
    frame = np.empty((1, 8, 8, 3), np.uint8)
    frame[:] = (255, 102, 51)
    frames = {config.sampling: Frames(pixels=frame, times_s=np.zeros(1))}
    check_stage(aesthetic_stage(config), ITEM, frames)
    found = aesthetic_stage(config).open()(ITEM, frames)["aesthetic"]
    embedding = np.array([1, 0.4, 0.2])
    assert found == pytest.approx(weight @ embedding / np.linalg.norm(embedding) + bias, rel=1e-4, abs=1e-5)


def test_the_key_knows_model_weights_and_settings(tmp_path: Path) -> None:
    model, other = write_model(tmp_path / "a.onnx", flat=False), write_model(tmp_path / "b.onnx", side="s", flat=False)
    linear, _, _ = predictor(tmp_path, "one layer")
    configs = [
        AestheticConfig(),
        AestheticConfig(model=model),
        AestheticConfig(model=other),
        AestheticConfig(model=model, linear=linear),
        AestheticConfig(model=model, reduction="mean"),
        AestheticConfig(model=model, side=8),
    ]
    assert len({aesthetic_stage(config).key("a") for config in configs}) == len(configs)
    (tmp_path / "moved.onnx").write_bytes((tmp_path / "a.onnx").read_bytes())
    moved = AestheticConfig(model=str(tmp_path / "moved.onnx"))
    assert aesthetic_stage(moved).key("a") == aesthetic_stage(configs[1]).key("a")


def test_the_middle_of_the_picture_is_seen_at_the_size_of_the_model() -> None:
    frame = np.zeros((1, 40, 120, 3), np.uint8)
    frame[:, :, 40:80] = 255
    assert (prepare(frame, AestheticConfig(side=20, **PLAIN))[0, :, :, 1:-1] == 1).all()
    ready = prepare(np.full((2, 9, 5, 3), 255, np.uint8), AestheticConfig(side=7))
    assert ready.shape == (2, 3, 7, 7)
    assert ready[0, :, 0, 0] == pytest.approx([1.930, 2.075, 2.146], abs=1e-3)


@pytest.mark.parametrize(
    ("model", "config", "says"),
    [
        ({"side": 16}, {"side": 8}, "set side to fit"),
        ({"kind": TensorProto.UINT8}, {"side": 8}, "must take float32"),
        ({"flat": False}, {"side": 8}, "one score a frame"),
    ],
)
def test_a_model_that_does_not_fit_is_one_clear_line(tmp_path: Path, model: dict, config: dict, says: str) -> None:
    settings = AestheticConfig(model=write_model(tmp_path / "m.onnx", **model), **config)
    with pytest.raises(InputError, match=says):
        aesthetic_stage(settings).open()(ITEM, clip(settings, [1, 2]))


def test_a_file_that_is_no_model_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="no ONNX model") as caught:
        aesthetic_stage(AestheticConfig(model=str(tmp_path / "m.onnx"))).open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["text", "text npz", "names", "shapes", "nan", "code"])
def test_wrong_linear_weights_are_one_clear_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / ("head.npz" if damage in ("text npz", "names") else "head.pth")
    if damage.startswith("text"):
        path.write_text("no weights")
    elif damage == "names":
        np.savez(path, weight=np.zeros((1, 3)), offset=np.zeros(1))
    elif damage == "shapes":
        torch.save({"0.weight": torch.zeros(4, 3), "0.bias": torch.zeros(4)}, path)
    elif damage == "nan":
        torch.save({"weight": torch.full((1, 3), torch.nan), "bias": torch.zeros(1)}, path)
    else:
        torch.save({"weight": Path("x"), "bias": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="head") as caught:
        load_linear(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"linear": "none.pth"}, "give both"),
        ({"reduction": "max"}, "min or mean"),
        ({"frames": 0}, "frames"),
        ({"deviation": (1.0, 0.0, 1.0)}, "deviation"),
    ],
)
def test_senseless_settings_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        AestheticConfig(**settings)


def test_a_missing_file_is_named_when_the_stage_is_made_and_not_before(tmp_path: Path) -> None:
    for files in ({"model": "none.onnx"}, {"model": write_model(tmp_path / "m.onnx"), "linear": "none.onnx"}):
        config = AestheticConfig(**files)
        with pytest.raises(InputError, match="no aesthetic model at none.onnx"):
            aesthetic_stage(config)
