"""A small objective and its batches, for tests of the loop in this process and, as a script, in others.

    [torchrun --nproc-per-node 2] python line.py RUN CONFIG [RUN CONFIG ...] [--resume] [--kill-at STEP]

Configs are JSON, with `late` beside the loop's fields. For each it prints the trained parameters as JSON.
"""

import argparse
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cosmos_posttrain import Average, LoopConfig, OptimizerConfig, Parallel, ParallelConfig, ParameterGroup, Schedule
from cosmos_posttrain import train as run_loop
from cosmos_posttrain.parallel import named_parameters, processes, whole_tensor


@dataclass(frozen=True, kw_only=True)
class Points:
    x: Tensor
    keys: tuple[str, ...]


class PointStream:
    """Batches of 16 points, this process's share of them; `position` counts batches."""

    def __init__(self, rank: int = 0, world: int = 1, seen: Callable[[int], None] = lambda position: None) -> None:
        self.rank, self.world, self.seen = rank, world, seen
        self.position = 0
        self.closed = False

    def __next__(self) -> Points:
        self.seen(self.position)
        x = torch.from_numpy(np.random.default_rng(self.position).normal(size=(16, 6)).astype(np.float32))
        keys = tuple(f"{self.position}-{i}" for i in range(16))
        self.position += 1
        return Points(x=x[self.rank :: self.world], keys=keys[self.rank :: self.world])

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]

    def close(self) -> None:
        self.closed = True


class Line:
    """Fit a map with two blocks that repeat; with `noisy`, noise comes from torch's global generator.

    With `late`, a second module takes part in the loss from that step on.
    """

    def __init__(self, *, noisy: bool = True, late: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6)) for _ in range(2))
            self.module = nn.Sequential(*self.blocks, nn.Linear(6, 3))
            self.second = nn.Linear(6, 3) if late else None
        self.noisy, self.late = noisy, late

    def shard(self, parallel: Parallel) -> None:
        for index in range(2):
            self.module[index] = parallel.block(self.module[index])
        parallel.whole(self.module)
        if self.second is not None:
            parallel.whole(self.second)

    def parameters(self) -> dict[str, nn.Parameter]:
        second = {} if self.second is None else named_parameters(self.second)
        return named_parameters(self.module) | {f"second.{name}": value for name, value in second.items()}

    def groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(parameters=self.parameters())]

    def loss(self, batch: Points, step: int) -> dict[str, Tensor]:
        x = batch.x + 0.1 * torch.randn_like(batch.x) if self.noisy else batch.x
        made = self.module(x)
        if self.second is not None and step >= self.late:
            made = made + self.second(x)
        error = (made - batch.x[:, :3]).square().mean()
        return {"loss": error, "half": error / 2}

    def validate(self) -> dict[str, float | np.ndarray]:
        return {"score": float(self.module(torch.ones(2, 6)).sum()), "grid": np.zeros((4, 5, 3), np.uint8)}

    def weights(self) -> dict[str, list[Any]]:
        return {name: whole_tensor(value.detach()).tolist() for name, value in self.parameters().items()}


def config_of(fields: dict[str, Any]) -> LoopConfig:
    """A config from JSON."""
    given = dict(fields)
    given["optimizer"] = OptimizerConfig(**given["optimizer"])
    given["schedule"] = Schedule(**given.get("schedule", {}))
    given["parallel"] = ParallelConfig(**given.get("parallel", {}))
    given["averages"] = tuple(Average(**row) for row in given.get("averages", [{"decay": 0.9}]))
    return LoopConfig(**given)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at", type=int)
    args = parser.parse_args()

    def seen(position: int) -> None:
        if position == args.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    with processes():
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        for run, text in zip(args.runs[::2], args.runs[1::2], strict=True):
            config = json.loads(text)
            line = Line(noisy=world == 1 and "parallel" not in config, late=config.pop("late", 0))
            stream = PointStream(rank, world, seen)
            run_loop(line, stream, config_of(config), Path(run), resume=args.resume, say=lambda line: None)
            weights = line.weights()
            if rank == 0:
                print(json.dumps(weights))


if __name__ == "__main__":
    main()
