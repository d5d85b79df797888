"""Exported files, run without the package's networks, against the model: clips and endless steps, any size."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from cosmos_tokenizer import (
    PRESETS,
    CausalTokenizer,
    InputError,
    TokenizerConfig,
    export,
    export_commands,
    frame_norm,
    fsq,
    haar,
    save,
)
from cosmos_tokenizer.cli import main
from cosmos_tokenizer.exported import difference, open_exported

Make = Callable[..., CausalTokenizer]
TINY = replace(PRESETS["toy"], channel_multipliers=(1, 1), channels=4, z_channels=4)
DISCRETE = replace(TINY, kind="discrete", latent_channels=3, levels=(8, 6, 5))
IMAGE = replace(TINY, media="image", temporal_compression=1, channel_multipliers=(1,))
IMAGE_DISCRETE = replace(IMAGE, kind="discrete", latent_channels=3, levels=(8, 6, 5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "part", "name"),
    [
        (TINY, "encoder", "half.onnx"),
        (DISCRETE, "decoder", "half.onnx"),
        (TINY, "decoder", "half.pt2"),
        (DISCRETE, "encoder", "half.pt2"),
        (IMAGE, "decoder", "half.onnx"),
        (IMAGE_DISCRETE, "encoder", "half.pt2"),
    ],
)
def test_a_graph_of_any_size_computes_what_the_model_does_at_other_sizes(
    config: TokenizerConfig, part: str, name: str, random_tokenizer: Make, tmp_path: Path
) -> None:
    model = random_tokenizer(config)
    frames = None if config.media == "image" else 9
    paths = export(model, tmp_path / name, part=part, frames=frames, size=(32, 32), dynamic=True)
    assert paths == (tmp_path / name,)
    for size in ((16, 40), (48, 24)):
        apart, sound = difference(model, paths, part, frames or 1, size)
        assert apart < 1e-4
        assert sound


@pytest.mark.slow
@pytest.mark.parametrize(("config", "part", "suffix"), [(TINY, "decoder", "onnx"), (DISCRETE, "encoder", "pt2")])
def test_steps_go_on_without_end_and_at_other_sizes(
    config: TokenizerConfig, part: str, suffix: str, random_tokenizer: Make, tmp_path: Path
) -> None:
    model = random_tokenizer(config)
    paths = export(model, tmp_path / f"half.{suffix}", part=part, size=(32, 32), dynamic=True, steps=True, window=3)
    assert [path.name for path in paths] == [f"half.start.{suffix}", f"half.next.{suffix}"]
    assert difference(model, paths, part, 41, (16, 40))[0] < 1e-4
    sizes = []
    start, following = map(open_exported, paths)
    shape = (1, 3, 1, 16, 16) if part == "encoder" else (1, 4, 1, 2, 2)
    _, memory = start.run(torch.zeros(shape), {})
    for _ in range(4):
        shape = (1, 3, 8, 16, 16) if part == "encoder" else shape
        _, memory = following.run(torch.zeros(shape), memory)
        sizes.append(sum(value.numel() for value in memory.values()))
    assert sizes[0] == sizes[3]


def test_onnx_runs_without_torch_and_says_what_it_is(random_tokenizer: Make, tmp_path: Path) -> None:
    model = random_tokenizer(DISCRETE)
    path = tmp_path / "encoder.onnx"
    export(model, path, part="encoder", frames=9, size=(16, 24))
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("video", [1, 3, 9, 16, 24])]
    assert [(o.name, o.type) for o in session.get_outputs()] == [("indices", "tensor(int32)")]
    about = json.loads(session.get_modelmeta().custom_metadata_map["cosmos-tokenizer"])
    assert TokenizerConfig.from_dict(about["config"]) == DISCRETE
    assert about["fingerprint"] == model.fingerprint["encoder"]
    assert (about["part"], about["form"], about["memory"], about["window"]) == ("encoder", "clip", [], None)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_where_kernels_run_a_graph_still_holds_none_of_them(
    part: str, random_tokenizer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    for module in (frame_norm, fsq, haar):
        monkeypatch.setattr(module, "use_triton", lambda *_: torch.compiler.is_exporting())
    (path,) = export(random_tokenizer(IMAGE_DISCRETE), tmp_path / "half.pt2", part=part, size=(16, 24))
    targets = [str(node.target) for node in torch.export.load(path).graph.nodes]
    assert "aten.group_norm.default" in targets
    assert not [target for target in targets if target.startswith("cosmos_tokenizer")]


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(random_tokenizer: Make, tmp_path: Path) -> None:
    video, image = random_tokenizer(TINY), random_tokenizer(IMAGE)
    encoder = random_tokenizer(TINY, parts="encoder")
    for model, name, options, said in (
        (video, "x.pt", {"frames": 9}, r"must end in \.pt2 or \.onnx"),
        (video, "x.pt2", {}, "frames is missing"),
        (video, "x.pt2", {"frames": 6}, "give 9"),
        (video, "x.pt2", {"frames": 9, "steps": True}, "one latent frame"),
        (video, "x.pt2", {"frames": 9, "size": (33, 32)}, "give 40x32"),
        (video, "x.pt2", {"steps": True, "window": 1}, "window is 1"),
        (image, "x.pt2", {"steps": True}, "no past"),
        (image, "x.pt2", {"frames": 2}, "one frame"),
        (encoder, "x.pt2", {"frames": 9}, "no decoder"),
        (random_tokenizer(TINY).bfloat16(), "x.onnx", {"frames": 9}, "bfloat16"),
    ):
        with pytest.raises(InputError, match=said):
            export(model, tmp_path / name, part="decoder", **{"size": (32, 32), **options})
    assert list(tmp_path.iterdir()) == []


def test_missing_onnx_is_one_line_that_names_the_extra(
    random_tokenizer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnx and onnxscript: pip install 'cosmos-tokenizer\[export\]'"):
        export(random_tokenizer(TINY), tmp_path / "x.onnx", part="decoder", frames=9)


def test_the_command_writes_and_measures(
    random_tokenizer: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    save(random_tokenizer(IMAGE), model)
    out = tmp_path / "encoder.pt2"
    assert main(["export", str(model), str(out), "--part", "encoder", "--size", "32x48", "--dynamic", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out.splitlines()[-1])
    assert captured.err == ""
    assert result["outputs"] == [str(out)]
    assert result["bytes"] == [out.stat().st_size]
    assert result["checked_on"] == {"frames": 1, "height": 40, "width": 64}
    assert result["difference"] < 1e-4
    for options, said in ((["--size", "32"], "--size is '32'"), (["--size", "33x48"], "give 40x48")):
        assert main(["export", str(model), str(out), "--part", "encoder", *options]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", ["x.pt2", "x.onnx"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_file_that_computes_something_else_is_one_line(
    random_tokenizer: Make,
    tmp_path: Path,
    name: str,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = DISCRETE if part == "encoder" else TINY
    save(random_tokenizer(config), tmp_path / "model.safetensors")
    other = random_tokenizer(config)
    with torch.no_grad():
        for value in other.parameters():
            value.add_(torch.randn_like(value), alpha=0.1)
    monkeypatch.setattr(export_commands, "export_model", lambda _, *given, **options: export(other, *given, **options))
    command = ["export", str(tmp_path / "model.safetensors"), str(tmp_path / name)]
    assert main([*command, "--part", part, "--frames", "1", "--size", "16x16"]) == 2
    err = capsys.readouterr().err
    assert f"{name}: does not compute what" in err
    assert err.count("\n") == 1


def test_other_files_are_no_exported_tokenizers(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.ones(2),)), tmp_path / "x.pt2")
    with pytest.raises(InputError, match="no tokenizer"):
        open_exported(tmp_path / "x.pt2")
