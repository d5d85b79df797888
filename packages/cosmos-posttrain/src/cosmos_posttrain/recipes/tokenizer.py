"""Recipes of tokenizers (arXiv 2501.03575, section 4.2), and what runs one: data, start, training, finished file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain import optimizers, pca_start
from cosmos_posttrain.averages import Average
from cosmos_posttrain.data import Source, Stream, StreamConfig, open_source
from cosmos_posttrain.loop import LoopConfig
from cosmos_posttrain.losses import POST_TRAINING, RELEASED, StepSchedule
from cosmos_posttrain.networks.sources import network_file
from cosmos_posttrain.optimizers import OptimizerConfig
from cosmos_posttrain.parallel import Parallel, processes
from cosmos_posttrain.recipes.files import train_to_files
from cosmos_posttrain.recipes.finishing import measure_statistics, whole
from cosmos_posttrain.recipes.reconstruction import JUDGE, Reconstruction
from cosmos_posttrain.recipes.record import keep_record
from cosmos_posttrain.recipes.terms import Terms, TermWeights
from cosmos_posttrain.recipes.validation import validation_clips
from cosmos_posttrain.schedules import Schedule
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load, save

START_CLIPS = 48
"""Training clips that the linear start is measured on."""
STATISTICS_CLIPS = 128
"""Training clips whose latents give a continuous tokenizer's statistics."""
DEVELOPMENT = "development.npy"
"""File of a pool's clips for validation, none of which is trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRecipe:
    """What is trained, on which crops, for how long.

    `preset`: the network, of ``cosmos_tokenizer.PRESETS``; `init`, a checkpoint of any layout, takes its place.
    `start`, without `init`: random weights, or ``pca_start``'s linear transform (small networks for video).
    `trained`: all weights, or the decoder's alone. `storage`: dtype of the weights in the finished file.
    """

    preset: str
    loop: LoopConfig
    data: StreamConfig
    terms: TermWeights = TermWeights()
    init: str | None = None
    start: Literal["random", "pca"] = "random"
    trained: Literal["all", "decoder"] = "all"
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    validation_clips: int = 16

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InputError(f"preset is {self.preset!r}: use one of {', '.join(PRESETS)}")
        if self.validation_clips < 0:
            raise InputError(f"validation_clips is {self.validation_clips}: give a number from 0 up")
        if self.loop.parallel.context > 1:
            raise InputError(
                f"loop.parallel.context is {self.loop.parallel.context}: a tokenizer takes whole clips, leave it 1"
            )
        if self.start == "pca" and self.init is None and self.loop.parallel.weights == "sharded":
            raise InputError(
                "start is 'pca', whose masks on gradients sharded weights would lose: set "
                "loop.parallel.weights=replicated, or start=random"
            )
        if self.start == "pca" and self.init is None and self.trained == "decoder":
            raise InputError("trained is 'decoder' and start is 'pca', whose encoder is of the data at hand: give init")


_NANO = TokenizerRecipe(
    preset="nano-cv4x8x8",
    loop=LoopConfig(
        steps=3000,
        optimizer=OptimizerConfig(name="muon", rate=5e-4),
        schedule=Schedule(warmup=30, shape="cosine", flat=0.4, final=0.03),
        averages=(Average(decay=0.998),),
    ),
    data=StreamConfig(batch=4, frames=(17,), sides=(128,), crop=64, unscaled=1.0),
    start="pca",
    storage="float16",
)
# A quantiser's gradients are noisy: larger batches, in which twice the rate is stable.
_DISCRETE = replace(
    _NANO,
    preset="nano-dv4x8x8",
    loop=replace(_NANO.loop, steps=4000, optimizer=OptimizerConfig(name="muon", rate=1e-3)),
    data=replace(_NANO.data, batch=8),
    terms=TermWeights(
        perceptual=StepSchedule(values=(0.1,)),
        gram=StepSchedule(values=(0.0, 0.062), boundaries=(2400,)),
        every=4,
    ),
)
# With 17 frames, 3 latent ones, every causal kernel would reach the first, which is unlike the others, and nets would
# not learn what comes after it.
_LONG = replace(
    _NANO,
    preset="nano-cv8x8x8",
    data=replace(_NANO.data, batch=3, frames=(33,)),
    terms=replace(_DISCRETE.terms, gram=StepSchedule(values=(0.0, 0.062), boundaries=(1800,))),
)
_RELEASED = TokenizerRecipe(
    preset="cv8x8x8-720p",
    loop=LoopConfig(
        steps=1_000_000,
        optimizer=OptimizerConfig(
            name="adamw", rate=1e-4, options={"betas": (0.5, 0.999), "eps": 1e-8, "weight_decay": 0.01}
        ),
        schedule=Schedule(warmup=5000),
        averages=(Average(decay=0.9999),),
        save_every=5000,
        validate_every=5000,
    ),
    data=StreamConfig(batch=8, frames=(121,), sides=(360, 720), crop=256),
    terms=replace(TermWeights(features="vgg16"), **RELEASED),
)

RECIPES = {
    "tokenizer-toy": TokenizerRecipe(
        preset="toy",
        loop=LoopConfig(
            steps=20,
            optimizer=OptimizerConfig(name="adamw", rate=2e-3),
            schedule=Schedule(warmup=5),
            averages=(Average(decay=0.9),),
            save_every=10,
            validate_every=20,
        ),
        data=StreamConfig(batch=2, frames=(9,), sides=(64,), crop=64),
        validation_clips=2,
    ),
    "nano-cv4x8x8": _NANO,
    "nano-dv4x8x8": _DISCRETE,
    "nano-cv8x8x8": _LONG,
    "nano-dv8x16x16": replace(_LONG, preset="nano-dv8x16x16"),
    "tokenizer-released": _RELEASED,
    "tokenizer-posttrain": replace(_RELEASED, terms=replace(TermWeights(features="vgg16"), **POST_TRAINING)),
}
"""Name to recipe: one that runs in seconds, the shipped nanos, the released networks' as far as it is known, and what
NVIDIA's code post-trains those with, for `init`."""


def run(
    recipe: TokenizerRecipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    networks: Path | None = None,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train ``recipe`` and write the averaged weights to ``out/model.safetensors``, which ``load`` takes.

    Those of further moving averages go to ``out/model-NAME.safetensors``, such as ``model-width-0.1``.

    Args:
        recipe: what to train.
        data: shards, a folder of clips and pictures, or a pool. A pool's development clips are validated on, with
            other data its first clips, which are then trained on too.
        out: folder of the run, which keeps the recipe beside the loop's files.
        resume: go on from the newest checkpoint.
        networks: folder with weights of the feature and flow networks.
        workers: processes that decode.
        say: takes each line of progress.

    Raises:
        InputError: the data, the run folder or an option of the optimiser is not what it should be.
    """
    recipe.terms.check_windows(recipe.data.frames)
    with processes():
        parallel = Parallel(recipe.loop.parallel)
        said = say if parallel.rank == 0 else _silent
        optimizers.check(recipe.loop.optimizer, parallel.device)
        source = open_source(data, say=said)
        batches = Stream(source, recipe.data, rank=parallel.rank, world=parallel.world, workers=workers, say=say)
        aside = data / DEVELOPMENT
        held = open_source(aside) if aside.is_file() else source
        validation = [clip for _, clip in validation_clips(held, recipe.data, recipe.validation_clips, said)]
        torch.manual_seed(recipe.loop.seed)
        # Released files are in bfloat16, in which small steps would be lost.
        model = (
            CausalTokenizer(PRESETS[recipe.preset]) if recipe.init is None else load(recipe.init, dtype=torch.float32)
        )
        if model.encoder is None or model.decoder is None:
            raise InputError(f"{recipe.init}: holds one half only, and training takes both")
        if model.config.media == "image" and recipe.data.frames != (1,):
            raise InputError(
                f"{recipe.init or recipe.preset}: is an image tokenizer, and data.frames is {recipe.data.frames}: set "
                "data.frames=[1]"
            )
        terms = Terms(recipe.terms, model, networks, said)
        keep = keep_record(recipe, {"networks": terms.digests}, out, resume=resume, first=parallel.rank == 0)
        if recipe.start == "pca" and recipe.init is None:
            pca_start.start(model, _clips(source, recipe, START_CLIPS))
        objective = Reconstruction(
            model,
            terms,
            trained=recipe.trained,
            validation=validation,
            judge=_judge(recipe.terms, networks, said),
        )

        def finish(path: Path) -> None:
            finished = whole(model)
            # An encoder that nothing trained has the latents that it had.
            if finished.config.kind == "continuous" and (recipe.trained == "all" or finished.statistics is None):
                finished.statistics = measure_statistics(finished, _share(source, recipe, parallel), parallel)
            if parallel.rank == 0:
                save(finished, path, storage=getattr(torch, recipe.storage))

        path = train_to_files(objective, batches, recipe.loop, out, finish, keep=keep, resume=resume, say=said)
        parallel.barrier()
    return path


def _share(source: Source, recipe: TokenizerRecipe, parallel: Parallel) -> Iterator[Float[Tensor, "B 3 T H W"]]:
    """This process's part of about as many clips as the statistics take: those of the first batch's shape."""
    data = replace(recipe.data, images=0.0)
    stream = Stream(source, data, rank=parallel.rank, world=parallel.world, say=_silent)
    shape = None
    for _ in range(-(-STATISTICS_CLIPS // data.batch)):
        video = next(stream).video
        shape = shape or video.shape[1:]
        if video.shape[1:] == shape:
            yield video


def _clips(source: Source, recipe: TokenizerRecipe, count: int) -> Float[Tensor, "N 3 T H W"]:
    """About so many clips of the training data, as batches bring them: those of the first clip's shape."""
    stream = Stream(source, replace(recipe.data, images=0.0), say=_silent)
    found = [next(stream).video for _ in range(-(-count // recipe.data.batch))]
    return torch.cat([video for video in found if video.shape[1:] == found[0].shape[1:]])[:count]


def _judge(terms: TermWeights, networks: Path | None, say: Callable[[str], None]) -> Path | None:
    """Weights of the network of the validation's distance, where they are at hand and the loss does not use them."""
    path = None if networks is None else network_file(networks, JUDGE)
    if path is None or not path.is_file():
        return None
    if terms.features == JUDGE and {"perceptual", "gram"} & set(terms.used()):
        say(f"validated without perceptual distance: its network, {JUDGE}, is the loss's own")
        return None
    return path


def _silent(line: str) -> None:
    pass
