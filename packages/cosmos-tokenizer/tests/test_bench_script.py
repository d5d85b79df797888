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
    assert (trained.ours, trained.peer, trained.ratio) == ("6.000 s", "3.000 s", "0.50x faster")
    assert (folded.shape, folded.dtype) == ("9x32x32", str(dtype).removeprefix("torch."))
    assert float(apart.ours) < (1e-4 if dtype == torch.float32 else 0.3)


def test_memory_of_both_is_measured(script: ModuleType) -> None:
    for name in ("folded", "diffusers"):
        assert script.peak_bytes(name, 9, 64, CPU) > 9 * 64 * 64 * 3 * 4


def test_rows_of_the_stream_and_of_approximations(script: ModuleType, tmp_path: Path) -> None:
    assert ["nano-cv" in row.what for row in script.against_one_pass(CPU, 32, 1)] == [True, False]
    frames = np.random.default_rng(0).integers(0, 256, (33, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", Video(frames=frames, rate=Fraction(24)))
    found = list(script.approximations(str(tmp_path / "clip.mp4"), CPU))
    assert len(found) == 8
    exact = [row for row in found if "window of 4" not in row.what]  # 9 latent frames, and less than a tile
    assert [float(row.ratio.removesuffix(" dB")) for row in exact] == [0.0] * 6
