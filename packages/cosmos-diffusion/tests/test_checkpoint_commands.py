"""``cosmos-diffusion convert`` and ``info``: what they print, and one line for what is wrong."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from cosmos_diffusion import PRESETS
from cosmos_diffusion.checkpoint import load, save
from cosmos_diffusion.cli import main
from cosmos_diffusion.world_model import WorldModel

VIDEO = PRESETS["toy-video"]
FLOW = replace(VIDEO, prediction="flow", rope_fps=False)


@pytest.fixture
def place(randomised: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a world model in it."""
    monkeypatch.chdir(tmp_path)
    save(randomised(WorldModel(VIDEO)), "world.safetensors")
    save(randomised(WorldModel(FLOW)), "flow.safetensors")
    return tmp_path


Run = Callable[[str], tuple[int, dict, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs one command: its exit code, the object in its last line, and its standard error."""

    def call(line: str) -> tuple[int, dict, str]:
        capsys.readouterr()
        code = main([*line.split(), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err

    return call


def test_info_says_what_a_checkpoint_holds(place: Path, run: Run) -> None:
    code, said, _ = run("info world.safetensors")
    assert code == 0
    assert said["command"] == "info"
    assert said["layout"] == "ours"
    assert said["parameters"] == 99_312
    assert said["dtype"] == "float32"
    assert said["uncertainty"] is True
    assert said["config"] == json.loads(json.dumps(asdict(VIDEO)))
    assert len(said["fingerprint"]) == 64


def test_a_network_keeps_its_fingerprint_through_every_layout_and_no_other_has_it(place: Path, run: Run) -> None:
    assert run("convert world.safetensors half.safetensors --dtype bfloat16")[0] == 0
    first = run("info half.safetensors")[1]
    for to, output in (("native", "model.pt"), ("diffusers", "folder"), ("ours", "again.safetensors")):
        code, said, _ = run(f"convert half.safetensors {output} --to {to}")
        assert (code, said["to"], said["output"]) == (0, to, output)
        again = run(f"info {output}")[1]
        assert again["layout"] == to
        assert again["dtype"] == "bfloat16"
        assert again["fingerprint"] == first["fingerprint"]
    model = load("half.safetensors", dtype=torch.float32)
    save(model, "wide.safetensors")
    assert run("info wide.safetensors")[1]["fingerprint"] == first["fingerprint"]
    with torch.no_grad():
        model.net.last.weight[5, 7] += 1e-3
    save(model, "other.safetensors")
    assert run("info other.safetensors")[1]["fingerprint"] != first["fingerprint"]


def test_a_config_is_a_preset_or_a_file(place: Path, run: Run) -> None:
    assert run("convert flow.safetensors model.pt --to native")[0] == 0
    fields = run("info flow.safetensors")[1]["config"]
    Path("flow.json").write_text(json.dumps(fields))
    assert run("info model.pt --config flow.json")[1]["config"] == fields
    assert run("info model.pt")[1]["config"] != fields
    assert run("convert model.pt back.safetensors --config flow.json")[0] == 0
    assert load("back.safetensors").config == FLOW


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("info nothing.pt", "there is no file or folder nothing.pt"),
        ("info world.safetensors --config tiny", "config is 'tiny': use one of"),
        ("info world.safetensors --config 7b-text2world", "the config given has blocks 28, and the file 2"),
        ("info world.safetensors --config bad.json", "bad.json is not JSON"),
        ("info world.safetensors --config list.json", "list.json holds no config"),
        ("info short.safetensors", "short.safetensors: a truncated or damaged safetensors file"),
        ("convert world.safetensors out --to onnx", "invalid choice: 'onnx'"),
        ("convert world.safetensors . --to diffusers", "exists: name a new or an empty folder"),
        ("convert world.safetensors world.safetensors/x.pt --to native", "world.safetensors/x.pt: File exists"),
        ("convert world.safetensors x.pt --dtyp float16", "unrecognized arguments: --dtyp"),
        ("guess", "invalid choice"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(line: str, says: str, place: Path, run: Run) -> None:
    Path("short.safetensors").write_bytes(Path("world.safetensors").read_bytes()[:-5])
    Path("bad.json").write_text("{")
    Path("list.json").write_text("[]")
    before = sorted(place.rglob("*"))
    code, _, err = run(line)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert sorted(place.rglob("*")) == before


def test_help_and_version_leave_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["convert", "--help"]) == 0
    assert "--to {ours,native,diffusers}" in capsys.readouterr().out
