"""The script behind `nox -s bench`, on small networks: every kind of row is measured, and says what it compares."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS
from cosmos_tokenizer.bench import Cost
from cosmos_tokenizer.video import Video, write_video

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench.py"
CPU = torch.device("cpu")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with the smallest network in place of the full-size one."""
    spec = importlib.util.spec_from_file_location("bench_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    toy = replace(PRESETS["toy"], z_channels=4, decoder_blocks=2)  # what diffusers' class can say
    monkeypatch.setattr(module, "PRESETS", {module.NET: toy})
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_beside_diffusers_time_both_and_compare_results(
    script: ModuleType, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"peer": 3.0, "folded": 1.5, "trained": 6.0}

    def measure(runs: dict[str, Callable[[], torch.Tensor]], **_: object) -> dict[str, Cost]:
        clips = {name: run() for name, run in runs.items()}
        assert {tuple(clip.shape) for clip in clips.values()} == {(1, 3, 9, 32, 32)}
        return {name: Cost(seconds=seconds[name], bytes=None) for name in runs}

    monkeypatch.setattr(script, "measure", measure)
    model = script.random_model()
    folded, trained, apart = script.against_diffusers(model, script.diffusers_of(model), 9, 32, 1, dtype, CPU)
    assert (folded.ours, folded.peer, folded.ratio) == ("1.500 s", "3.000 s", "2.00x faster")
    assert (trained.ours, trained.peer, trained.ratio) == ("6.000 s", "3.000 s", "2.00x slower")
    assert (folded.shape, folded.dtype) == ("9x32x32", str(dtype).removeprefix("torch."))
    assert float(apart.ours) < (1e-4 if dtype == torch.float32 else 0.3)


def test_memory_of_both_is_measured(script: ModuleType) -> None:
    for name in ("folded", "diffusers"):
        assert script.peak_bytes(name, 9, 64, CPU) > 9 * 64 * 64 * 3 * 4


def test_rows_of_the_stream_and_of_approximations(script: ModuleType, tmp_path: Path) -> None:
    one, other = script.against_one_pass(CPU, 32, 1)
    assert ("nano-cv" in one.what, "nano-cv" in other.what) == (True, False)
    assert all(row.ratio.endswith(("x slower", "x faster")) for row in (one, other))
    frames = np.random.default_rng(0).integers(0, 256, (33, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", Video(frames=frames, rate=Fraction(24)))
    found = list(script.approximations(str(tmp_path / "clip.mp4"), CPU))
    assert len(found) == 12
    between = [row for row in found if "beside" in row.what]  # less than a tile
    assert len(between) == 4
    assert all(float(row.ours.removesuffix(" dB")) > 100 for row in between)
    assert all(float(row.ratio.removeprefix("differ by ").removesuffix(" at most")) < 1e-5 for row in between)
    exact = [row for row in found if "window of 4" not in row.what and row not in between]  # 9 latent frames
    assert [float(row.ratio.removesuffix(" dB")) for row in exact] == [0.0] * 6


def test_tiles_are_measured_beside_the_whole_frame_and_not_the_footage_alone(script: ModuleType) -> None:
    clip = [torch.zeros(1, 3, 1, 4, 4), torch.zeros(1, 3, 4, 4, 4)]
    other = [piece + shift for piece, shift in zip(clip, (0.02, -0.04), strict=True)]
    decibels, largest = script.apart(other, clip)
    assert largest == pytest.approx(0.04)
    assert decibels == pytest.approx(-10 * np.log10((0.01**2 + 4 * 0.02**2) / 5), abs=1e-4)
    assert script.apart(clip, clip) == (float("inf"), 0.0)


def test_speed_is_said_in_words_and_every_row_names_its_device(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [script.speed(1.0, 1.96), script.speed(2.0, 2.0), script.speed(1.0, 0.6)] == [
        *("1.96x faster", "1.00x faster", "1.67x slower"),
    ]
    row = script.Row(what="w", shape="s", dtype="d", ours="o", peer="p", ratio="r")
    monkeypatch.setattr(script, "rows", lambda *_, **__: [row])
    monkeypatch.setattr(script, "name_of", lambda _: "a machine")
    monkeypatch.setattr(sys, "argv", ["bench.py"])
    script.main()
    *_, head, _, line = capsys.readouterr().out.splitlines()
    assert head == "| what | shape | dtype | device | ours | peer | ratio |"
    assert line == "| w | s | d | a machine | o | p | r |"
