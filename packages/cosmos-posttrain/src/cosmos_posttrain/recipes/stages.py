"""Recipes of the released diffusion networks (arXiv 2501.03575, section 5.1): stages that grow, and adapters.

Each network is trained on 512p clips of 57 frames, goes on from those weights (``--init``) on 720p clips of 121, and
ends with few steps on the best of the data. ``--init`` of a released checkpoint goes on from that instead. Optimisers,
averages, shards and what is recomputed are the published ones. Sizes of batches and lengths are not published, but for
the 14B networks' decay over 90,000 steps and "about 10,000" of the last stage.

A batch is that of all processes: 64 clips are one for each context of 64 times `loop.parallel.context` GPUs; with fewer
GPUs, set `data.batch` (and `data.image_batch`) lower and `loop.accumulate` higher. Clips are scaled by their short side
and cut to the nearest of five aspects, where the original pads: 16:9 is 512x912 and 704x1248 here.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cosmos_diffusion import lora
from cosmos_diffusion.defaults import RELEASED
from cosmos_posttrain.averages import Average
from cosmos_posttrain.data import StreamConfig
from cosmos_posttrain.loop import LoopConfig
from cosmos_posttrain.optimizers import OptimizerConfig
from cosmos_posttrain.parallel import ParallelConfig
from cosmos_posttrain.recipes.diffusion import DiffusionRecipe
from cosmos_posttrain.schedules import Schedule

_BATCH = 64

_LOOPS = {
    "7b": LoopConfig(
        steps=90_000,
        optimizer=OptimizerConfig(
            name="adamw", rate=2**-14.3, options={"betas": (0.9, 0.99), "eps": 1e-10, "weight_decay": 0.1}
        ),
        schedule=Schedule(warmup=2500),
        averages=(Average(width=0.1), Average(width=0.05), Average(width=0.025)),
        parallel=ParallelConfig(weights="sharded", shard_over=32, checkpointing="full", precision="bfloat16"),
        save_every=1000,
        validate_every=1000,
    ),
    "14b": LoopConfig(
        steps=90_000,
        optimizer=OptimizerConfig(
            name="adamw", rate=2**-16.0, options={"betas": (0.9, 0.99), "eps": 1e-11, "weight_decay": 0.2}
        ),
        schedule=Schedule(warmup=2500, shape="linear", final=0.1),
        averages=(Average(width=0.1), Average(width=0.05), Average(width=0.025)),
        parallel=ParallelConfig(weights="sharded", shard_over=64, checkpointing="selective", precision="bfloat16"),
        save_every=1000,
        validate_every=1000,
    ),
}
_CONTEXTS = {("7b", 57): 1, ("7b", 121): 4, ("14b", 57): 4, ("14b", 121): 8}
"""Processes that share a clip, by its frames."""
_WIDTHS = {480: 848, 512: 912, 704: 1248}
"""Of 16:9 clips, by height."""
# Captions and time have a direction: nothing is mirrored or reversed.
_CLIPS = StreamConfig(batch=_BATCH, frames=(57,), sides=(512,), unscaled=0.0, flip=0.0, reverse=0.0)


def _stage(size: str, kind: str, frames: int, side: int) -> DiffusionRecipe:
    loop = _LOOPS[size]
    # As many pictures as a batch of clips has latent frames, and as many batches of them as of clips.
    pictures = _BATCH * ((frames - 1) // 8 + 1)
    return DiffusionRecipe(
        preset=f"{size}-{kind}",
        tokenizer="cv8x8x8-720p",
        loop=replace(
            loop,
            # Ulysses' exchanges leave one attention a block to keep, where a ring has one a turn.
            parallel=replace(loop.parallel, context=_CONTEXTS[size, frames], context_method="ulysses"),
        ),
        data=replace(_CLIPS, frames=(frames,), sides=(side,), images=0.5, image_batch=pictures),
        defaults=replace(RELEASED["edm"], frames=frames, height=side, width=_WIDTHS[side]),
        storage="bfloat16",
        validation_clips=4,
    )


def _high_quality(recipe: DiffusionRecipe) -> DiffusionRecipe:
    schedule = Schedule(shape="linear", final=0.0)
    return replace(recipe, loop=replace(recipe.loop, steps=10_000, schedule=schedule))


def _adapted(recipe: DiffusionRecipe) -> DiffusionRecipe:
    """Four GPUs, with one clip at a time and all weights on each."""
    loop = replace(
        recipe.loop,
        steps=2000,
        optimizer=replace(recipe.loop.optimizer, rate=1e-4),
        schedule=Schedule(),
        averages=(Average(width=0.1),),
        parallel=replace(recipe.loop.parallel, weights="replicated", shard_over=0),
        save_every=500,
        validate_every=500,
    )
    data = replace(recipe.data, batch=1, sides=(480,), images=0.0, image_batch=None)
    defaults = replace(RELEASED["edm"], frames=121, height=480, width=_WIDTHS[480])
    return replace(recipe, loop=loop, data=data, defaults=defaults, lora=lora.PRESETS["predict1"])


def _of(size: str, kind: str) -> dict[str, DiffusionRecipe]:
    name, large = f"{size}-{kind}", _stage(size, kind, 121, 704)
    return {
        f"{name}-512p57f": _stage(size, kind, 57, 512),
        f"{name}-720p121f": large,
        f"{name}-high-quality": _high_quality(large),
    } | ({f"{name}-lora": _adapted(large)} if size == "7b" else {})


RECIPES: Mapping[str, DiffusionRecipe] = MappingProxyType(
    {
        stage: recipe
        for size in _LOOPS
        for kind in ("text2world", "video2world")
        for stage, recipe in _of(size, kind).items()
    }
)
"""Name to recipe: three stages of four networks, and adapters for the 7B ones; they ask for ``--embeddings``."""
