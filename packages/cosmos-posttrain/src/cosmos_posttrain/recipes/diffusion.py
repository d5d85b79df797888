"""Recipes of diffusion world models (arXiv 2501.03575, section 5.1), and what runs one: data, start, finished file."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

import cosmos_diffusion
from cosmos_diffusion import lora
from cosmos_diffusion.defaults import Defaults
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.lora import LoRAConfig
from cosmos_diffusion.loss import LOSSES, LossConfig
from cosmos_diffusion.text_encoders import ByteEncoderConfig, PrecomputedEncoder
from cosmos_diffusion.world_model import WorldModel
from cosmos_posttrain import optimizers
from cosmos_posttrain.averages import Average
from cosmos_posttrain.data import Source, Stream, StreamConfig, open_source
from cosmos_posttrain.loop import LoopConfig
from cosmos_posttrain.optimizers import OptimizerConfig
from cosmos_posttrain.parallel import Parallel, ParallelConfig, processes, whole_tensor
from cosmos_posttrain.recipes.denoising import Denoising, Shown
from cosmos_posttrain.recipes.files import train_to_files
from cosmos_posttrain.recipes.latents import Latents, measure_domains
from cosmos_posttrain.recipes.record import keep_record
from cosmos_posttrain.recipes.validation import validation_clips
from cosmos_posttrain.schedules import Schedule
from cosmos_tokenizer import CausalTokenizer, InputError, LatentStatistics, load
from cosmos_tokenizer.atomic import write_whole

STATISTICS_CLIPS = 128
"""Training clips whose latents give the statistics of a model that begins from random weights."""
STATISTICS_FILE = "statistics.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionRecipe:
    """What is trained, on the latents of which clips, for how long.

    `preset`: the network, of ``cosmos_diffusion.PRESETS``; `init`, a checkpoint of any layout, takes its place.
    `tokenizer`: what makes latents, anything ``cosmos_tokenizer.load`` takes; it is not trained. `text_encoder`: one
    that is trained with the network, of captions; None for that of `init`, for embeddings that are given, or none.
    `loss`: by default as the released networks of the kind were trained. `defaults`: what pipelines do with the
    finished model. `lora`: adapters that are trained on `init`, whose own weights then stay as they are.
    `keep_latents`: gigabytes of latents that each process keeps, for clips that come again without another crop.
    """

    preset: str
    tokenizer: str
    loop: LoopConfig
    data: StreamConfig
    defaults: Defaults | None = None
    text_encoder: ByteEncoderConfig | None = None
    loss: LossConfig | None = None
    init: str | None = None
    lora: LoRAConfig | None = None
    keep_latents: float = 0.0
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    validation_clips: int = 16

    def __post_init__(self) -> None:
        if self.preset not in cosmos_diffusion.PRESETS:
            raise InputError(f"preset is {self.preset!r}: use one of {', '.join(cosmos_diffusion.PRESETS)}")
        if self.validation_clips < 0:
            raise InputError(f"validation_clips is {self.validation_clips}: give a number from 0 up")
        if not self.keep_latents >= 0:
            raise InputError(f"keep_latents is {self.keep_latents}: give gigabytes from 0 up")


_NANO_TEXT = cosmos_diffusion.PRESETS["nano-video2world"]
_NANO = DiffusionRecipe(
    preset="nano-video2world",
    tokenizer="nano-cv8x8x8",
    loop=LoopConfig(
        steps=2700,
        optimizer=OptimizerConfig(name="muon", rate=5e-3),
        schedule=Schedule(warmup=50, shape="linear", flat=0.4, final=0.02),
        averages=(Average(width=0.1),),
        parallel=ParallelConfig(precision="bfloat16"),
    ),
    # Physics runs one way.
    data=StreamConfig(batch=16, frames=(33,), sides=(96,), crop=96, images=0.0, unscaled=1.0, reverse=0.0),
    defaults=Defaults(
        tokenizer="nano-cv8x8x8", frames=33, height=96, width=96, fps=24.0, guidance=1.0, guide_frames=True
    ),
    text_encoder=ByteEncoderConfig(width=_NANO_TEXT.text_width, length=_NANO_TEXT.text_length),
    loss=LossConfig(
        levels=LOSSES["edm"].levels,
        scale=1.0,
        text_dropout=0.15,
        given=(0, 1, 1, 2, 2),  # what goes on from frames is measured; text alone is an extra
        augment_mean=-4.0,
        augment_std=1.5,
    ),
    keep_latents=1.0,
    storage="float16",
)

RECIPES = {
    "diffusion-toy": replace(
        _NANO,
        preset="toy-video",
        loop=LoopConfig(
            steps=6,
            optimizer=OptimizerConfig(name="adamw", rate=1e-3),
            averages=(Average(decay=0.9),),
            save_every=3,
            validate_every=6,
        ),
        data=replace(_NANO.data, batch=2, frames=(17,), sides=(48,), crop=48),
        defaults=Defaults(tokenizer="nano-cv8x8x8", frames=17, height=48, width=48, fps=24.0, steps=4, guidance=0.0),
        text_encoder=ByteEncoderConfig(width=32, length=16, layers=1, heads=2),
        loss=LossConfig(levels=LOSSES["edm"].levels, given=(0, 1)),
        validation_clips=2,
    ),
    "nano-video2world": _NANO,
}
"""Name to recipe: one that runs in seconds, and the shipped nano."""


def run(
    recipe: DiffusionRecipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    embeddings: Path | None = None,
    validation: Path | None = None,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train ``recipe`` and write the averaged weights to ``out/model.safetensors``, which ``load`` takes.

    Those of further moving averages go to ``out/model-NAME.safetensors``, such as ``model-width-0.1``. Adapters are
    merged into these files, and lie beside them alone, in ``adapter.safetensors`` and ``adapter-NAME.safetensors``.

    Args:
        recipe: what to train.
        data: shards or a folder of clips and pictures with captions beside them, or a pool.
        out: folder of the run, which keeps the recipe and the statistics of latents beside the loop's files.
        resume: go on from the newest checkpoint.
        embeddings: of captions, for a model without a text encoder of its own: what ``cosmos-diffusion embed`` writes.
        validation: clips to validate on; by default the first of the data, which are then trained on too.
        workers: processes that decode.
        say: takes each line of progress.

    Raises:
        InputError: the data, the run folder, the tokenizer, or an option of the optimiser is not what it should be.
    """
    with processes():
        parallel = Parallel(recipe.loop.parallel)
        said = say if parallel.rank == 0 else _silent
        optimizers.check(recipe.loop.optimizer, parallel.device)
        source = open_source(data, say=said)
        batches = Stream(source, recipe.data, rank=parallel.share, world=parallel.shares, workers=workers, say=say)
        world = _begin(recipe)
        codec = _codec(recipe, world)
        known = None if embeddings is None else _embeddings(embeddings, world)
        held = source if validation is None else open_source(validation, say=said)
        shown = [
            Shown(frames=frames, caption=held.describe(index).text, rate=held.describe(index).rate)
            for index, frames in validation_clips(held, recipe.data, recipe.validation_clips, said)
        ]
        keep = keep_record(recipe, {}, out, resume=resume, first=parallel.rank == 0)
        latents = Latents(codec, keep=int(recipe.keep_latents * 1e9))
        latents.to(parallel.device)
        if world.domains is None:
            world.domains = _domains(recipe, world, source, latents, out, parallel)
        objective = Denoising(
            world,
            latents,
            loss=recipe.loss or LOSSES[world.config.prediction],
            embeddings=known,
            validation=shown,
        )

        def finish(path: Path) -> None:
            finished = _whole(world, recipe.lora, path, parallel)
            if finished is not None:
                cosmos_diffusion.save(finished, path, storage=getattr(torch, recipe.storage))

        path = train_to_files(objective, batches, recipe.loop, out, finish, keep=keep, resume=resume, say=said)
        parallel.barrier()
    return path


def _begin(recipe: DiffusionRecipe) -> WorldModel:
    """The model to train: of random weights that follow from the seed, or of a checkpoint, with float32 masters."""
    torch.manual_seed(recipe.loop.seed)
    if recipe.init is None:
        if recipe.lora is not None:
            raise InputError("lora is given, and init is not: give a checkpoint to adapt (--init)")
        config = cosmos_diffusion.PRESETS[recipe.preset]
        return WorldModel(config, text_encoder=recipe.text_encoder, defaults=recipe.defaults)
    # Weights that stay as they are need no more digits than a pass has.
    frozen_low = recipe.lora is not None and recipe.loop.parallel.precision == "bfloat16"
    world = cosmos_diffusion.load(recipe.init, dtype=torch.bfloat16 if frozen_low else torch.float32)
    if world.text_encoder is None and recipe.text_encoder is not None:
        raise InputError(f"{recipe.init}: has no text encoder of its own: set text_encoder=null")
    if world.text_encoder is not None and recipe.text_encoder not in (None, world.text_encoder.config):
        raise InputError(
            f"text_encoder is {recipe.text_encoder}, and {recipe.init} has {world.text_encoder.config}: set "
            "text_encoder=null to go on with that"
        )
    if recipe.defaults is not None:
        world.defaults = recipe.defaults
    # What is loaded stays mapped from the file until it is written to.
    world.load_state_dict({name: value.clone() for name, value in world.state_dict().items()}, assign=True)
    if recipe.lora is not None:
        lora.add(world, recipe.lora)
        world.uncertainty.requires_grad_(True)  # no part of what is generated, and new where a release left it out
    return world


def _codec(recipe: DiffusionRecipe, world: WorldModel) -> CausalTokenizer:
    codec = load(recipe.tokenizer)
    if codec.config.kind != "continuous" or codec.config.latent_channels != world.config.latent_channels:
        raise InputError(
            f"tokenizer {recipe.tokenizer}: gives {codec.config.kind} latents of {codec.config.latent_channels} "
            f"channels, and the network takes continuous ones of {world.config.latent_channels}"
        )
    lengths = sorted({codec.geometry.padded_frames(frames) for frames in recipe.data.frames})
    if lengths != sorted(set(recipe.data.frames)):
        raise InputError(
            f"data.frames is {recipe.data.frames}: {recipe.tokenizer} takes 1 + {codec.geometry.temporal} n frames, "
            f"such as {', '.join(map(str, lengths))}"
        )
    return codec.eval().requires_grad_(False)


def _embeddings(path: Path, world: WorldModel) -> PrecomputedEncoder:
    config = world.config
    if world.text_encoder is not None:
        raise InputError(f"{path}: the model has a text encoder of its own: leave the embeddings out")
    known = PrecomputedEncoder(path, length=config.text_length)
    width = config.text_projection or config.text_width
    if known.width != width:
        raise InputError(f"{path}: embeddings are {known.width} wide, and the network takes {width}")
    return known


def _domains(
    recipe: DiffusionRecipe, world: WorldModel, source: Source, latents: Latents, out: Path, parallel: Parallel
) -> Domains:
    """Statistics of latents: for a released checkpoint its tokenizer's, else those of the data, measured once a run."""
    sigma_data = world.preconditioning.sigma_data
    if recipe.init is not None:
        codec = latents.codec
        assert isinstance(codec, CausalTokenizer)
        if codec.statistics is None:
            raise InputError(
                f"tokenizer {recipe.tokenizer}: has no statistics of latents, and {recipe.init} brings none: keep "
                "mean_std.pt beside it"
            )
        return Domains(video=codec.statistics, picture=codec.statistics, sigma_data=sigma_data)
    path = out / STATISTICS_FILE
    held = parallel.first(path.read_text("utf-8") if parallel.rank == 0 and path.is_file() else None)
    if held is not None:
        return _read(held, path, sigma_data)
    domains = measure_domains(_some(source, recipe, latents, parallel), sigma_data, parallel)
    if parallel.rank == 0:
        fields = {
            kind: {"mean": statistics.mean.tolist(), "std": statistics.std.tolist()}
            for kind, statistics in (("video", domains.video), ("picture", domains.picture))
        }
        write_whole(path, json.dumps(fields).encode())
    parallel.barrier()
    return domains


def _read(text: str, path: Path, sigma_data: float) -> Domains:
    try:
        video, picture = (
            LatentStatistics(*(torch.tensor(kind[name]) for name in ("mean", "std")))
            for kind in map(json.loads(text).__getitem__, ("video", "picture"))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged; name another folder") from error
    return Domains(video=video, picture=picture, sigma_data=sigma_data)


def _some(
    source: Source, recipe: DiffusionRecipe, latents: Latents, parallel: Parallel
) -> Iterator[Float[Tensor, "B C t h w"]]:
    """This process's part of the latents of about as many clips as the statistics take."""
    stream = Stream(source, recipe.data, rank=parallel.share, world=parallel.shares, say=_silent)
    for _ in range(-(-STATISTICS_CLIPS // recipe.data.batch)):
        yield latents(next(stream).video.to(parallel.device))


def _whole(world: WorldModel, adapters: LoRAConfig | None, path: Path, parallel: Parallel) -> WorldModel | None:
    """An unwrapped copy on the CPU, in the first process; every process must ask.

    Adapters are merged into it, and written beside ``path``, where it will go.
    """
    first = parallel.rank == 0
    state: dict[str, Tensor] = {}
    for name, value in world.state_dict().items():
        value = whole_tensor(value.detach())
        if first:  # others let go of each
            state[name] = value.cpu()
    values = [whole_tensor(value.detach()).cpu() for value in lora.parameters(world).values()]
    if not first:
        return None
    encoder = None if world.text_encoder is None else world.text_encoder.config
    with torch.device("meta"):
        copy = WorldModel(world.config, text_encoder=encoder, domains=world.domains, defaults=world.defaults)
    copy.load_state_dict(state, assign=True)
    if adapters is not None:
        lora.add(copy, adapters)
        for parameter, value in zip(lora.parameters(copy).values(), values, strict=True):
            parameter.data = value
        lora.save(copy, path.with_name(path.name.replace("model", "adapter", 1)))
        lora.merge(copy)
        lora.remove(copy)
    return copy.eval()


def _silent(line: str) -> None:
    pass
