"""The command: a toy run from start to loadable weights, resumed and repeated; what it refuses, in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.torch import save_file

from cosmos_posttrain import holdout
from cosmos_posttrain.cli import main
from cosmos_posttrain.networks.efficientnet import EfficientNetLite0
from cosmos_posttrain.worlds import offscreen
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, progress, save


def last_line(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from cosmos_posttrain.cli import main; main(['--help']); "
    code += "print(*sorted({'torch', 'numpy', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("preset", ["nano-dv4x8x8", "nano-cv8x8x8"])
def test_compare_reports_each_clip_and_the_gain(
    preset: str, small_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(holdout, "STARTS", {"bikes": (0,), "carphone": (1,)})
    monkeypatch.setattr(holdout, "SQUARE", {"bikes": 32})
    for name in ("bikes", "carphone"):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for level in range(0, 200, 10):
                picture = np.full((32, 32, 3), level, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode())
    model = str(tmp_path / "m.safetensors")
    save(CausalTokenizer(PRESETS[preset]), model)
    save_file(EfficientNetLite0().state_dict(), tmp_path / "efficientnet_lite0.safetensors")
    command = ["compare", model, "--footage", str(tmp_path), "--data", str(small_pool), "--networks", str(tmp_path)]
    monkeypatch.setattr(progress, "PERIOD", 0.0)
    assert main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    for label in (
        f"blocks {preset[7:]} of the pool",
        f"PCA beside {model}",
        f"{model} on bikes@0",
        f"PCA beside {model} on bikes@0",
    ):
        assert f"\n{label}: " in f"\n{out}"
    result = json.loads(out.splitlines()[-1])
    figures = result["figures"]
    for clip in ("bikes", "carphone", "mean"):
        expected = figures[model][clip]["per_frame"] - figures[f"PCA beside {model}"][clip]["per_frame"]
        assert result["gains"][model][clip] == pytest.approx(expected)
        assert 0 < figures[model][clip]["perceptual_distance"] <= 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "nano-zz", "--data", "p", "--out", "r"],
            "no recipe 'nano-zz': there are tokenizer-toy, nano-cv4x8x8",
        ),
        (["train", "tokenizer-toy", "--out", "r"], "--data is missing"),
        (["train"], "recipe is missing"),
        (
            ["train", "tokenizer-toy", "--data", "p", "--out", "r", "--set", "loop.speed=1"],
            "there is no field loop.speed",
        ),
        (["train", "tokenizer-toy", "--data", "nowhere", "--out", "r"], "nowhere"),
        (["train", "tokenizer-toy", "--data", "p", "--out", "r", "--steps", "0"], "steps is 0"),
        (["compare", "m", "--footage", "nowhere", "--data", "p"], "nowhere/bikes.mp4"),
        (["pool", "nowhere", "out"], "nowhere"),
        (["train", "tokenizer-toy", "--data", "p", "--out", "r", "--threads", "-1"], "'-1' is not a whole number"),
        (
            ["train", "tokenizer-toy", "--data", "p", "--out", "r", "--threads", "0"],
            "'0' is not a whole number from 1 up",
        ),
        (["pool", "nowhere", "out", "--clips", "-3"], "'-3' is not a whole number"),
        (["pool", "nowhere", "out", "--clips", "0"], "'0' is not a whole number from 1 up"),
        (["pool", "nowhere", "out", "--frames", "0"], "'0' is not a whole number from 1 up"),
        (["compare", "m", "--footage", "f", "--data", "p", "--blocks", "0"], "'0' is not a whole number from 1 up"),
        (["fly"], "fly"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_machine_that_cannot_render_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    monkeypatch.setattr(offscreen, "load_mujoco", no_library)
    with pytest.raises(InputError, match="cannot render.*glGetError.*apt-get install libosmesa6"):
        offscreen.check_renderer()


@pytest.mark.parametrize(("given", "platform"), [(None, "osmesa"), ("egl", "egl"), ("", "osmesa")])
def test_mujoco_learns_its_platform_and_the_environment_stays_as_it_was(
    given: str | None, platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mujoco.py").write_text("import os\nplatform = os.environ['MUJOCO_GL']\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if given is not None:
        monkeypatch.setenv("MUJOCO_GL", given)
    before = dict(os.environ)
    try:
        assert offscreen.load_mujoco().platform == platform
    finally:
        sys.modules.pop("mujoco", None)
    assert dict(os.environ) == before
