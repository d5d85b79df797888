"""The training loop: any objective, with moving average, schedule, checkpoints and exact resume.

The order of batches and every random draw follow from the seed and the step alone, so a run that was killed and
resumed ends with the same weights as one that was not.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from cosmos_posttrain.muon import Muon
from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.jsontext import to_json

KEPT_CHECKPOINTS = 2
REPORT_SECONDS = 5.0


@runtime_checkable
class Objective(Protocol):
    """What is trained and how it is scored; anything with these members will do."""

    @property
    def module(self) -> nn.Module:
        """The network whose parameters are optimised."""
        ...

    def loss(self, step: int) -> Tensor:
        """Scalar loss of the batch that belongs to ``step``, with a gradient."""
        ...

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Figures of ``module`` (the averaged weights) on data kept aside, for the metrics file."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """Length, schedule and bookkeeping of a run; the batch belongs to the objective."""

    steps: int
    learning_rate: float
    warmup: int = 30
    flat: float = 0.4
    """Share of the run at the full rate; a cosine takes the rest."""
    final: float = 0.03
    """Rate at the end, as a share of ``learning_rate``."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the moving average, once the run is long enough for it: see :meth:`decay`."""
    seed: int = 0
    save_every: int = 500
    validate_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not 0 <= self.ema <= 1:
            raise InputError(f"ema is {self.ema}: it must lie in 0 ... 1")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be positive")

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, flat, then a cosine down to ``final``."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = max(0.0, (step / self.steps - self.flat) / (1 - self.flat)) if self.flat < 1 else 0.0
        return self.learning_rate * (self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2)

    def decay(self, step: int) -> float:
        """Share of the moving average that a step keeps; a young average forgets its first weights sooner."""
        return min(self.ema, (1 + step) / (10 + step))


def train(
    objective: Objective,
    config: LoopConfig,
    run: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Optimise ``objective`` and return a copy of its module with the averaged weights.

    Writes ``run/metrics.jsonl`` (one JSON object a report: ``step``, ``loss``, ``rate``, ``seconds``, and validation
    figures) and ``run/checkpoints/step-N.pt``, of which the newest two stay.

    Args:
        objective: module, loss and validation.
        config: length, schedule, bookkeeping.
        run: folder of the run; without ``resume`` it must hold no checkpoint yet.
        resume: go on from the newest checkpoint, or start where there is none.
        say: takes each line of progress.

    Raises:
        InputError: the folder already holds a run, or its checkpoint belongs to another config.
        FloatingPointError: the loss is not finite.
    """
    module = objective.module
    averaged = AveragedModel(module, multi_avg_fn=_moving_average(config))
    optimizer = Muon(module.parameters(), lr=config.learning_rate)
    state = _State(module, averaged, optimizer, config, run)
    first = state.restore() if resume else state.begin()
    began = reported = time.monotonic()
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        torch.manual_seed((config.seed << 32) + step)
        loss = objective.loss(step)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss of step {step} is {loss.item()}: resume from {run} at a lower rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        averaged.update_parameters(module)

        done, now = step + 1, time.monotonic()
        last = done == config.steps
        figures = {"step": done, "loss": loss.item(), "rate": config.rate(step), "seconds": round(now - began, 2)}
        validated = last or done % config.validate_every == 0
        if validated:
            with torch.no_grad():
                figures |= objective.validate(averaged.module)
        if validated or now - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            state.log(figures)
            left = (now - began) / (done - first) * (config.steps - done)
            say(", ".join(f"{name} {value:.5g}" for name, value in figures.items()) + f", left {left:.0f} s")
        if last or done % config.save_every == 0:
            state.save(done)
    return averaged.module


def _moving_average(config: LoopConfig) -> Callable[[Any, Any, Any], None]:
    """How `AveragedModel` counts later weights in; the first it copies, and a checkpoint keeps its count."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
        torch._foreach_lerp_(averaged, current, 1 - config.decay(int(updates)))

    return update


class _State:
    """Everything a checkpoint holds, and the folder it lives in."""

    def __init__(
        self, module: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, config: LoopConfig, run: Path
    ) -> None:
        self.parts: dict[str, Any] = {"module": module, "averaged": averaged, "optimizer": optimizer}
        self.config = config
        self.folder = run / "checkpoints"
        self.metrics = run / "metrics.jsonl"

    def begin(self) -> int:
        if list(self._checkpoints()):
            raise InputError(f"{self.folder.parent} already holds a run: resume it or name another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.metrics.write_text("")
        return 0

    def restore(self) -> int:
        checkpoints = list(self._checkpoints())
        if not checkpoints:
            return self.begin()
        saved = torch.load(checkpoints[-1], weights_only=True)
        if saved["config"] != asdict(self.config):
            theirs = {name: value for name, value in saved["config"].items() if value != asdict(self.config)[name]}
            raise InputError(f"{checkpoints[-1]} was made with {theirs}: resume with the same settings")
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        # A kill may have cut the last line short.
        lines = [line for line in self.metrics.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        kept = "".join(line for line in lines if json.loads(line)["step"] <= saved["step"])
        write_whole(self.metrics, kept.encode())
        return saved["step"]

    def save(self, step: int) -> None:
        target = self.folder / f"step-{step}.pt"
        beside = target.with_suffix(".partial")
        state = {name: part.state_dict() for name, part in self.parts.items()}
        try:
            torch.save({"step": step, "config": asdict(self.config), **state}, beside)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        for old in list(self._checkpoints())[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def log(self, figures: dict[str, Any]) -> None:
        with self.metrics.open("a") as file:
            file.write(to_json(figures) + "\n")

    def _checkpoints(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("step-*.pt"), key=lambda path: int(path.stem.removeprefix("step-"))))
