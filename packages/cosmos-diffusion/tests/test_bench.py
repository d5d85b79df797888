"""The command `bench`: counts that must be right whatever the machine, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from cosmos_diffusion import PRESETS, WorldModel, bench, save
from cosmos_diffusion.cli import main
from cosmos_diffusion.memory import flops

SIZE = ["--frames", "17", "--height", "32", "--width", "48", "--steps", "3", "--repeat", "1"]


def run(capsys: pytest.CaptureFixture, *arguments: str) -> dict:
    assert main(["bench", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(("guidance", "predictions"), [("0", 1), ("2.5", 2)])
def test_work_is_counted_for_every_evaluation(capsys: pytest.CaptureFixture, guidance: str, predictions: int) -> None:
    found = run(capsys, "--preset", "toy-video", *SIZE, "--guidance", guidance)
    size = (PRESETS["toy-video"], 17, 32, 48)
    one, whole = flops(*size, prepared=True), flops(*size)
    assert found["tokens"] == 3 * 2 * 3
    assert found["evaluations"] == 3 * predictions
    assert found["forward_flops"] == one
    assert found["sample_flops"] == predictions * (3 * one + whole - one)
    assert found["parameters"] == 99_312
    assert found["reused"] == 0
    assert found["share_of_peak"] == pytest.approx(one / found["forward_seconds"] / found["peak_flops"])


def test_what_a_step_cache_reused_is_told(capsys: pytest.CaptureFixture) -> None:
    found = run(capsys, "--preset", "toy-video", *SIZE, "--cache", "1e9")
    assert (found["evaluations"], found["reused"]) == (6, 4)


def test_given_weights_are_timed(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    save(WorldModel(PRESETS["toy"]), tmp_path / "world.safetensors")
    found = run(capsys, "--model", str(tmp_path / "world.safetensors"), *SIZE, "--dtype", "bfloat16")
    assert (found["weights"], found["parameters"], found["dtype"]) == ("given", 99_120, "bfloat16")


@pytest.mark.parametrize("name", ["toy", "7b-text2world-multiview-trajectory", "7b-decoder-dv8x16x16-cv8x8x8"])
def test_any_kind_of_network_is_timed(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    small = {"blocks": 1, "width": 48, "heads": 2, "adaln_rank": 8, "text_width": 32, "text_length": 4}
    fields = {field: getattr(PRESETS[name], field) for field in PRESETS[name].__dataclass_fields__} | small
    monkeypatch.setattr("cosmos_diffusion.presets.PRESETS", {name: type(PRESETS[name])(**fields)})
    assert run(capsys, "--preset", name, *SIZE)["evaluations"] == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "8b"], "--preset is '8b': use one of"),
        (["--frames", "18"], "frames is 18"),
        (["--height", "100"], "height is 100"),
        (["--steps", "0"], "steps is 0"),
        (["--repeat", "0"], "--repeat is 0"),
        (["--cache", "-1"], "threshold of the step cache is -1.0"),
        (["--device", "nowhere"], "device is 'nowhere'"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_timed_is_named(capsys: pytest.CaptureFixture, arguments: list[str], says: str) -> None:
    network = [] if {"--preset", "--model"} & set(arguments) else ["--preset", "toy-video"]
    assert main(["bench", *network, *SIZE, *arguments]) == 2
    assert says in capsys.readouterr().err


def test_published_peaks_go_by_the_name_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, peak in (
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 2080", None),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert bench.published_peak(torch.device("cuda")) == peak
    assert bench.published_peak(torch.device("cpu")) is None
