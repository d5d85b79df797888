"""The loop: exact resume after a kill, averaged weights, schedule, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cosmos_posttrain import LoopConfig, train
from cosmos_tokenizer import InputError

CONFIG = LoopConfig(steps=12, learning_rate=1e-2, save_every=4, validate_every=6, warmup=2)

# The same objective in this process and in one that is killed.
OBJECTIVE = '''
import torch
from torch import nn


class Line:
    """Fit a random linear map; noise comes from torch's global generator at every step."""

    def __init__(self, stop_at=None, reached=lambda: None):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        self.stop_at, self.reached = stop_at, reached

    def loss(self, step):
        if step == self.stop_at:
            self.reached()
        x = torch.randn(16, 6)
        return (self.module(x) - x[:, :3]).square().mean()

    def validate(self, module):
        return {"score": float(module(torch.ones(1, 6)).sum())}
'''
exec(OBJECTIVE)  # noqa: S102
Line = globals()["Line"]


def weights(module: nn.Module) -> list[torch.Tensor]:
    return list(module.state_dict().values())


def silent(line: str) -> None:
    del line


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = train(Line(), CONFIG, tmp_path / "whole", say=silent)
    script = f"""
import os, signal
from pathlib import Path
from cosmos_posttrain import LoopConfig, train
{OBJECTIVE}
train(Line(7, lambda: os.kill(os.getpid(), signal.SIGKILL)), {CONFIG!r}, Path({str(tmp_path / "cut")!r}))
"""
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    with (tmp_path / "cut/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    resumed = train(Line(), CONFIG, tmp_path / "cut", resume=True, say=silent)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == CONFIG.steps


def test_the_returned_weights_are_the_moving_average(tmp_path: Path) -> None:
    objective = Line()
    seen: list[list[torch.Tensor]] = []
    loss = objective.loss

    def watched(step: int) -> torch.Tensor:
        seen.append([value.clone() for value in weights(objective.module)])
        return loss(step)

    objective.loss = watched
    config = LoopConfig(steps=5, learning_rate=0.3, warmup=1, flat=1.0, ema=0.3)
    averaged = train(objective, config, tmp_path / "run", say=silent)
    trajectory = [*seen[1:], weights(objective.module)]
    expected = trajectory[0]
    for later, kept in zip(trajectory[1:], (2 / 11, 3 / 12, 0.3, 0.3), strict=True):
        expected = [kept * a + (1 - kept) * b for a, b in zip(expected, later, strict=True)]
    for a, b in zip(weights(averaged), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_training_lowers_the_loss_and_keeps_two_checkpoints(tmp_path: Path) -> None:
    config = LoopConfig(steps=60, learning_rate=2e-1, save_every=10, validate_every=20)
    train(Line(), config, tmp_path / "run", say=silent)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "score" in row] == [20, 40, 60]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step-50.pt", "step-60.pt"]


def test_the_rate_warms_up_stays_and_falls() -> None:
    config = LoopConfig(steps=100, learning_rate=1.0, warmup=10, flat=0.5, final=0.1)
    assert config.rate(0) == pytest.approx(0.1)
    assert config.rate(9) == config.rate(30) == config.rate(50) == pytest.approx(1.0)
    assert config.rate(75) == pytest.approx(0.55)
    assert config.rate(100) == pytest.approx(0.1)


def test_a_young_average_forgets_sooner() -> None:
    config = LoopConfig(steps=1, learning_rate=1.0, ema=0.999)
    assert [config.decay(step) for step in (0, 1, 90, 8989)] == pytest.approx([0.1, 2 / 11, 0.91, 8990 / 8999])
    assert config.decay(8991) == config.decay(10**6) == 0.999


def test_what_cannot_be_trained_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="steps is 0"):
        LoopConfig(steps=0, learning_rate=1.0)
    with pytest.raises(InputError, match="learning_rate is -1"):
        LoopConfig(steps=1, learning_rate=-1.0)
    with pytest.raises(InputError, match="ema is 1.5"):
        LoopConfig(steps=1, learning_rate=1.0, ema=1.5)
    train(Line(), CONFIG, tmp_path / "run", say=silent)
    with pytest.raises(InputError, match="already holds a run: resume it"):
        train(Line(), CONFIG, tmp_path / "run", say=silent)
    longer = LoopConfig(steps=99, learning_rate=1e-2)
    with pytest.raises(InputError, match="was made with {'steps': 12"):
        train(Line(), longer, tmp_path / "run", resume=True, say=silent)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_saved(tmp_path: Path) -> None:
    objective = Line()
    loss = objective.loss
    objective.loss = lambda step: loss(step) * (float("nan") if step == 5 else 1.0)
    with pytest.raises(FloatingPointError, match="loss of step 5 is nan"):
        train(objective, CONFIG, tmp_path / "run", say=silent)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-4.pt"]
