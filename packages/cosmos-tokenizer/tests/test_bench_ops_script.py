"""The script that times kernels on a GPU, on a GPU that writes down what it is asked: launching is not timed."""

import importlib.util
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench_ops.py"


def test_the_gpu_waits_while_what_is_timed_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("bench_ops_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    asked: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            asked.append("event")

        def synchronize(self) -> None:
            asked.append("wait")

        def elapsed_time(self, other: "Event") -> float:
            return 3.0

    flush = torch.zeros(1)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: flush)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: asked.append("sleep"))
    assert script.seconds(lambda: asked.append("run")) == pytest.approx(3e-3)
    runs = asked[asked.index("sleep") :]
    assert runs == ["sleep", "event", "run", "event", "wait"] * script.REPEATS
