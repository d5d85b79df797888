"""Runs of the ablation's variants: data and judges that all share, training by the one loop, times and operations."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ablation_variants import VARIANTS, build
from jaxtyping import UInt8
from torch.utils.flop_counter import FlopCounterMode

from cosmos_posttrain import (
    Average,
    LoopConfig,
    OptimizerConfig,
    Parallel,
    ParallelConfig,
    Schedule,
    clip_pool,
    holdout,
    optimizers,
    train,
)
from cosmos_posttrain.data import Stream, StreamConfig, open_source
from cosmos_posttrain.networks.sources import network_file
from cosmos_posttrain.recipes.reconstruction import JUDGE, Reconstruction
from cosmos_posttrain.recipes.terms import Terms, TermWeights
from cosmos_tokenizer import CausalTokenizer, InputError

CROP = 64
"""Side of the crops that are trained on, in pixels."""
SCALING = 16
"""Batches whose patches say how the channels of scaled ones are scaled."""
OPTIMIZER = "muon"
Clips = Sequence[UInt8[np.ndarray, "T H W 3"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much is done.

    `frames` and `batch` of a step; `steps` of a run. Each variant has one for the first seed at each of `rates`, of
    which the best by the PSNR of `choosing` development clips cut to the crop has one for each other seed; `judged`
    other clips, whole, and the held-out ones are for the table; `rounds` of timing.
    """

    frames: int = 17
    batch: int = 4
    steps: int = 400
    rates: tuple[float, ...] = (4e-3, 8e-3, 16e-3)
    seeds: tuple[int, ...] = (0, 1)
    choosing: int = 16
    judged: int = 32
    rounds: int = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One run: figures by group of clips, such as "bikes": PSNR in dB and, with a network, the perceptual distance."""

    rate: float
    seed: int
    figures: Mapping[str, Mapping[str, float]]


class Ablation:
    """Runs of all variants, each a folder of ``out``; those that are finished there are not run again.

    Raises:
        InputError: the pool, the held-out clips or the network are not there, or not what they should be.
    """

    def __init__(self, data: Path, footage: Path, networks: Path | None, out: Path, plan: Plan) -> None:
        self._plan, self._source, self._out = plan, open_source(data), out
        development = clip_pool.open_split(data, "development", frames=plan.frames, side=CROP)[:, : plan.frames]
        rows, columns = (slice((size - CROP) // 2, (size + CROP) // 2) for size in development.shape[2:4])
        last = plan.choosing + plan.judged
        self._choosing: Clips = list(development[: plan.choosing, :, rows, columns])
        windows = holdout.held_out(footage)
        self._judged: Mapping[str, Clips] = {
            clip: [window.frames for window in windows if window.name.startswith(f"{clip}@")] for clip in holdout.STARTS
        } | {"development": list(development[plan.choosing : last])}
        self._judge = None if networks is None else network_file(networks, JUDGE)
        if self._judge is not None and not self._judge.is_file():
            raise InputError(f"no {self._judge}; fetch it with scripts/networks.py, or leave --networks out")
        first = self._batches(0)
        self._some = torch.cat([next(first).video for _ in range(SCALING)])

    def results(self, name: str) -> list[Result]:
        """A run of the variant for each seed, at the rate that is best for the first."""
        first, *others = self._plan.seeds
        models = {rate: self._trained(name, first, rate) for rate in self._plan.rates}
        chosen = {rate: self._figures(model, self._choosing)["psnr"] for rate, model in models.items()}
        for rate, value in chosen.items():
            print(f"{name}, rate {rate:g}: psnr {value:.4g} of the clips that choose", flush=True)
        rate, found = max(chosen, key=chosen.__getitem__), []
        runs = {first: models[rate]} | {seed: self._trained(name, seed, rate) for seed in others}
        for seed, model in runs.items():
            figures = {group: self._figures(model, clips) for group, clips in self._judged.items()}
            found.append(Result(rate=rate, seed=seed, figures=figures))
            for group, row in figures.items():
                said = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
                print(f"{name}, seed {seed}, on {group}: {said}", flush=True)
        return found

    def step_seconds(self) -> dict[str, list[float]]:
        """Times of training steps in rounds, in which variants take turns, so that other load falls on all of them."""
        batch = next(self._batches(0))
        steps = {}
        for name in VARIANTS:
            objective = self._objective(self._model(name, 0))
            objective.shard(Parallel(ParallelConfig()))
            optimizer = optimizers.build(OptimizerConfig(name=OPTIMIZER, rate=1e-3), objective.groups())
            steps[name] = (objective, optimizer)
        seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(1 + self._plan.rounds):
            for name, (objective, optimizer) in steps.items():
                begin = time.perf_counter()
                objective.loss(batch, 0)["loss"].backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - begin)
        return {name: times[1:] for name, times in seconds.items()}

    def flops(self, name: str) -> float:
        """Operations a frame of encoding and decoding a crop, two for each product and sum; attention's are left out.

        torch counts them, and has no count for attention on a CPU.
        """
        with FlopCounterMode(display=False) as counter:
            self._model(name, 0)(self._some[:1])
        return counter.get_total_flops() / self._plan.frames

    def _batches(self, seed: int) -> Stream:
        """Those of a seed are the same for every variant."""
        plan, side = self._plan, self._source.describe(0).height
        return Stream(
            self._source,
            StreamConfig(batch=plan.batch, frames=(plan.frames,), sides=(side,), crop=CROP, unscaled=1.0, seed=seed),
        )

    def _model(self, name: str, seed: int) -> CausalTokenizer:
        return build(name, seed, self._some)

    def _trained(self, name: str, seed: int, rate: float) -> CausalTokenizer:
        """The variant at the end of its run, with the moving average of its weights."""
        model, steps = self._model(name, seed), self._plan.steps
        config = LoopConfig(
            steps=steps,
            optimizer=OptimizerConfig(name=OPTIMIZER, rate=rate),
            schedule=Schedule(warmup=20, shape="cosine", flat=0.4, final=0.03),
            averages=(Average(decay=0.98),),
            seed=seed,
        )
        say = partial(print, f"{name}, seed {seed}, rate {rate:g}:", flush=True)
        run = self._out / f"{name}, seed {seed}, rate {rate:g}, {steps} steps".replace(",", "").replace(" ", "-")
        train(self._objective(model), self._batches(seed), config, run, resume=True, say=say)
        return model

    @torch.no_grad()
    def _figures(self, model: CausalTokenizer, clips: Clips) -> dict[str, float]:
        objective = self._objective(model, clips)
        objective.shard(Parallel(ParallelConfig()))
        return {key: value for key, value in objective.validate().items() if isinstance(value, float)}

    def _objective(self, model: CausalTokenizer, clips: Clips = ()) -> Reconstruction:
        """The tokenizer recipe's, with its L1 term alone; with clips, to judge."""
        terms = Terms(TermWeights(), model, None, print)
        return Reconstruction(model, terms, trained="all", validation=clips, judge=self._judge if clips else None)
