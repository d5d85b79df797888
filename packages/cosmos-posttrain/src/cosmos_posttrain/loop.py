"""The training loop: any objective, on one process or many, with moving averages, checkpoints and exact resume.

It pre-trains and post-trains every model of the family (arXiv 2501.03575, sections 4.1, 5.1 and 5.2). Every random draw
follows from the seed and the step, and the order of batches from their position, so that a run that was killed and
resumed ends with the same weights, bit for bit, as one that was not.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cosmos_posttrain import optimizers
from cosmos_posttrain.averages import Average, Averages
from cosmos_posttrain.checkpoints import Checkpoints, one_process_is_fine
from cosmos_posttrain.journal import Journal, not_finite_record
from cosmos_posttrain.optimizers import OptimizerConfig, ParameterGroup
from cosmos_posttrain.parallel import Parallel, ParallelConfig, processes, whole_tensor
from cosmos_posttrain.schedules import Schedule
from cosmos_tokenizer import InputError
from cosmos_tokenizer.jsontext import to_json

MAY_CHANGE = ("steps", "parallel", "save_every", "validate_every", "keep", "most_not_finite", "wandb")
"""What a resumed run may set anew; the rest decides the weights."""


@runtime_checkable
class Batch(Protocol):
    """What an objective takes; the loop asks for the names of its samples alone."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each sample, to find it again."""
        ...


B_contra = TypeVar("B_contra", contravariant=True)
B_co = TypeVar("B_co", bound=Batch, covariant=True)
B = TypeVar("B", bound=Batch)


@runtime_checkable
class Objective(Protocol[B_contra]):
    """What is trained and how it is scored; anything with these methods will do."""

    def shard(self, parallel: Parallel) -> None:
        """Spread the modules over the run's processes, by ``parallel.block`` and ``parallel.whole``; called first."""
        ...

    def groups(self) -> Sequence[ParameterGroup]:
        """Parameters to train, as they are after ``shard``."""
        ...

    def loss(self, batch: B_contra, step: int) -> Mapping[str, Tensor]:
        """Scalars of this process's part of a batch: "loss", a mean over samples, and others, to be recorded.

        Floats are averaged over batches of a step and over processes. Integers are counts so far: of several batches
        the last one's stands, and processes' are added.
        """
        ...

    def validate(self) -> Mapping[str, float | np.ndarray]:
        """Numbers, and pictures (uint8 H W 3), of the modules as they are, on data kept aside; {} for nothing.

        It runs without gradients and, like ``loss``, in the run's precision.
        """
        ...


@runtime_checkable
class Batches(Protocol[B_co]):
    """Batches without end, from a position that can be saved."""

    def __next__(self) -> B_co:
        """This process's part of the next batch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Position behind the batches handed out, as JSON takes it, the same for any number of processes."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        ...

    def close(self) -> None:
        """End what reads ahead."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """Length, optimiser and bookkeeping of a run; the batch belongs to the data.

    `clip`: largest norm of the gradient of each parameter group. `accumulate`: batches of one step. `keep`:
    checkpoints that stay. `averages`: moving averages, of which the first is what a finished run gives.
    `most_not_finite`: steps passed over because their loss or gradient was not finite, before the run stops.
    `wandb`: project of Weights & Biases to log to.
    """

    steps: int
    optimizer: OptimizerConfig
    schedule: Schedule = Schedule()
    averages: tuple[Average, ...] = (Average(decay=0.999),)
    parallel: ParallelConfig = ParallelConfig()
    clip: float = 1.0
    accumulate: int = 1
    seed: int = 0
    save_every: int = 500
    validate_every: int = 500
    keep: int = 2
    most_not_finite: int = 10
    wandb: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "validate_every", "keep", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not self.clip > 0:
            raise InputError(f"clip is {self.clip}: it must be positive")
        for name in ("most_not_finite", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: give a number from 0 up")
        names = [average.name for average in self.averages]
        if len(set(names)) < len(names):
            raise InputError(f"averages has {', '.join(names)}: each profile once")


def train(
    objective: Objective[B],
    batches: Batches[B],
    config: LoopConfig,
    run: Path | str,
    *,
    resume: bool = False,
    others: Callable[[Average], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Optimise ``objective``; behind it, its parameters are those of the first moving average, where there is one.

    Writes into ``run``: ``metrics.jsonl`` (an object a step: ``step``, ``loss``, ``rate``, ``grad_norm``, what the
    objective adds, ``seconds``), ``tensorboard``, ``samples``, and ``checkpoints/step-N``. Under ``torchrun`` every
    process calls it alike.

    Args:
        objective: modules, loss and validation.
        batches: of this process; closed at the end.
        config: length, optimiser, bookkeeping.
        run: folder of the run; without ``resume`` it must hold no checkpoint yet.
        resume: go on from the newest whole checkpoint, or start where there is none.
        others: called behind the last step with each moving average but the first, while the parameters are its own.
        say: takes each line of progress, in the first process.

    Raises:
        InputError: the folder already holds a run, or its checkpoint belongs to another config or network, or lies
            behind the last step.
        FloatingPointError: too many steps were not finite.
        OSError: a checkpoint cannot be written; those before it are still there.
    """
    with processes(), one_process_is_fine():
        try:
            _Run(objective, batches, config, Path(run), resume, say).train(others)
        finally:
            batches.close()


@dataclass(kw_only=True, slots=True)
class _Progress:
    """What a checkpoint holds beside tensors."""

    step: int = 0
    not_finite: int = 0
    batches: dict[str, Any] = field(default_factory=dict)


class _Run(Generic[B]):
    def __init__(
        self,
        objective: Objective[B],
        batches: Batches[B],
        config: LoopConfig,
        run: Path,
        resume: bool,
        say: Callable[[str], None],
    ) -> None:
        self.objective, self.batches, self.config, self.run = objective, batches, config, run
        self.parallel = Parallel(config.parallel)
        self.say = say if self.parallel.rank == 0 else _silent
        objective.shard(self.parallel)
        groups = objective.groups()
        self.parameters = {name: value for group in groups for name, value in group.parameters.items()}
        averaged = {name: value for group in groups if group.averaged for name, value in group.parameters.items()}
        self.averages = Averages(averaged, config.averages)
        self.optimizer = optimizers.build(config.optimizer, groups)
        for name, value in self.parameters.items():
            if value.dtype in (torch.float16, torch.bfloat16):
                raise InputError(
                    f"parameter {name} is {str(value.dtype).removeprefix('torch.')}, in which small steps are lost: "
                    "load it in float32, and set parallel.precision=bfloat16 for passes in half precision"
                )
        self.checkpoints = Checkpoints(run / "checkpoints", self.parallel, kept=config.keep)
        self.progress = self._resumed() if resume else self._begun()

    def train(self, others: Callable[[Average], None] | None) -> None:
        config, first = self.config, self.progress.step
        journal = None
        if self.parallel.rank == 0:
            journal = Journal(self.run, steps=config.steps, first=first, wandb=config.wandb, say=self.say)
        try:
            for step in range(first, config.steps):
                self.checkpoints.poll()
                figures, samples = self._step(step, journal)
                done = step + 1
                validated = done == config.steps or done % config.validate_every == 0
                if validated:
                    figures |= self._validated(done, journal)
                if journal is not None:
                    journal.log(done, figures, samples=samples, last=validated)
                if done == config.steps or done % config.save_every == 0:
                    self._save(done)
            self.checkpoints.wait()
        except BaseException:
            if journal is not None:
                journal.abandon()
            raise
        finally:
            self.checkpoints.close()
        if journal is not None:
            journal.close()
        self.parallel.barrier()
        if others is not None:
            for average in config.averages[1:]:
                self.averages.copy_to_parameters(average)
                others(average)
        if config.averages:
            self.averages.copy_to_parameters(config.averages[0])

    def _step(self, step: int, journal: Journal | None) -> tuple[dict[str, float], int]:
        """One update; its figures, and how many samples it saw over all processes."""
        config = self.config
        rate = config.optimizer.rate * config.schedule.factor(step, config.steps)
        optimizers.set_rate(self.optimizer, rate)
        torch.manual_seed(_seed(config.seed, step, self.parallel.share))
        keys: tuple[str, ...] = ()
        place = self.batches.state_dict()
        sums: dict[str, Tensor] = {}
        for turn in range(config.accumulate):
            batch = next(self.batches)
            keys += tuple(batch.keys)
            with self.parallel.gradients_stay_here(turn + 1 < config.accumulate):
                with self.parallel.autocast():
                    terms = self.objective.loss(batch, step)
                (terms["loss"] / config.accumulate).backward()
            for name, value in terms.items():
                if value.is_floating_point():
                    sums[name] = sums.get(name, 0.0) + value.detach() / config.accumulate
                else:
                    sums[name] = value * self.parallel.shares  # the mean of these is the counts' sum
        self.progress.batches = self.batches.state_dict()
        norm = self._clip()
        figures = self.parallel.mean(sums) | {"rate": rate, "grad_norm": norm}
        if math.isfinite(figures["loss"]) and math.isfinite(norm):
            self.optimizer.step()
            self.averages.update(step + 1)
        else:
            record = {"loss": figures["loss"], "batches": place}
            parts = self.parallel.all(keys)[:: config.parallel.context]
            self._pass_over(step + 1, record | {"keys": [key for part in parts for key in part]}, journal)
        self.optimizer.zero_grad(set_to_none=True)
        return figures, len(keys) * self.parallel.shares

    def _clip(self) -> float:
        """Scale the gradients of each group down to the largest norm allowed, and return the norm that all had."""
        return math.hypot(*(self._clip_group(group) for group in self.optimizer.param_groups))

    def _clip_group(self, group: Mapping[str, Any]) -> float:
        with_gradient = [value for value in group["params"] if value.grad is not None]
        # Tensors in parts and whole ones do not mix in one call.
        norms = [
            whole_tensor(torch.nn.utils.get_total_norm([value.grad for value in part if value.grad is not None]))
            for part in _by_kind(with_gradient)
        ]
        norm = sum((norm.cpu().square() for norm in norms), torch.zeros(())).sqrt()
        if norm > self.config.clip:
            factor = self.config.clip / (norm + 1e-6)
            for value in with_gradient:
                assert value.grad is not None
                value.grad.mul_(factor.to(value.grad.device))
        return float(norm)

    def _pass_over(self, step: int, record: Mapping[str, Any], journal: Journal | None) -> None:
        self.progress.not_finite += 1
        if journal is not None:
            journal.not_finite(step, record)
        where = not_finite_record(self.run, step)
        count, most = self.progress.not_finite, self.config.most_not_finite
        if count > most:
            raise FloatingPointError(
                f"step {step}: loss or gradient is not finite, {count} times by now; {where} names the samples; "
                "resume in float32, or start again with a lower rate"
            )
        self.say(f"step {step}: loss or gradient is not finite, passed over ({count} of at most {most}); see {where}")

    def _validated(self, step: int, journal: Journal | None) -> dict[str, float]:
        with torch.no_grad(), self.averages.in_place(), self.parallel.autocast():
            found = self.objective.validate()
            self.parallel.forget_gathered()
        pictures = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        if journal is not None:
            for name, picture in pictures.items():
                journal.picture(step, name, picture)
        return {name: float(value) for name, value in found.items() if name not in pictures}

    def _tensors(self) -> dict[str, Tensor]:
        state = optimizers.state_tensors(self.optimizer, self.parameters)
        return (
            {f"parameters.{name}": value.detach() for name, value in self.parameters.items()}
            | {f"optimizer.{name}": value for name, value in state.items()}
            | {f"averages.{name}": value for name, value in self.averages.tensors().items()}
        )

    def _tensors_like(self, saved: Mapping[str, Any], names: Collection[str]) -> dict[str, Tensor]:
        """What a checkpoint with that progress and tensors of these names is read into."""
        self._check(saved)
        mark = "optimizer."
        state = {name.removeprefix(mark) for name in names if name.startswith(mark)}
        optimizers.make_state(self.optimizer, self.parameters, state)
        return self._tensors()

    def _save(self, step: int) -> None:
        self.progress.step = step
        self.checkpoints.save(step, self._tensors(), asdict(self.progress) | {"config": _plain(self.config)})

    def _begun(self) -> _Progress:
        if self.parallel.first(self.checkpoints.exist()):
            raise InputError(f"{self.run} already holds a run: resume it or name another folder")
        return _Progress()

    def _resumed(self) -> _Progress:
        saved = self.checkpoints.restore(self._tensors_like, self.say)
        if saved is None:
            return _Progress()
        self.batches.load_state_dict(saved["batches"])
        self.say(f"{self.run}: resumed behind step {saved['step']}")
        return _Progress(step=saved["step"], not_finite=saved["not_finite"], batches=saved["batches"])

    def _check(self, saved: Mapping[str, Any]) -> None:
        if saved["step"] > self.config.steps:
            raise InputError(
                f"{self.run} has done {saved['step']} steps, and steps is {self.config.steps}: resume with "
                f"{saved['step']} or more, or name another folder"
            )
        mine = _plain(self.config)
        for name, value in saved["config"].items():
            if name not in MAY_CHANGE and mine.get(name) != value:
                raise InputError(
                    f"{self.run} was begun with {name} {value}, and now it is {mine.get(name)}: resume with the same "
                    "settings, or name another folder"
                )


def _plain(config: LoopConfig) -> dict[str, Any]:
    return json.loads(to_json(asdict(config)))


def _by_kind(values: list[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    kinds: dict[type, list[torch.nn.Parameter]] = {}
    for value in values:
        kinds.setdefault(type(value.data), []).append(value)
    return list(kinds.values())


def _seed(*of: int) -> int:
    return int(np.random.SeedSequence(of).generate_state(1, np.uint64)[0])


def _silent(line: str) -> None:
    pass
