"""Training of the small tokenizers that ship with cosmos-tokenizer: reconstruction of clips, from a linear start."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cosmos_posttrain import clip_pool, holdout, pca_start
from cosmos_posttrain.clip_pool import to_video
from cosmos_posttrain.loop import LoopConfig, train
from cosmos_tokenizer import PRESETS, CausalTokenizer, LatentStatistics

START_CLIPS = 48
STATISTICS_CLIPS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of training: how long, and what it sees of each clip."""

    name: str
    loop: LoopConfig
    batch: int
    frames: int
    crop: int = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRecipe:
    """A tokenizer of ``cosmos_tokenizer.PRESETS`` and its stages, each from the averaged weights of the one before."""

    preset: str
    stages: tuple[Stage, ...]
    validation_clips: int = 16


# Within 9 frames every causal convolution still sees the first frame, which is a latent of its own; frames after those
# come out wrong until clips are longer.
_NANO = (
    Stage(name="short", loop=LoopConfig(steps=2400, learning_rate=5e-4, ema=0.998), batch=8, frames=9),
    Stage(name="long", loop=LoopConfig(steps=600, learning_rate=2.5e-4, flat=0.1, ema=0.99), batch=5, frames=17),
)
_TOY = (
    Stage(name="short", loop=LoopConfig(steps=4, learning_rate=5e-4, save_every=2), batch=2, frames=5),
    Stage(name="long", loop=LoopConfig(steps=4, learning_rate=5e-4, save_every=2), batch=2, frames=9),
)

RECIPES = {
    "nano-cv4x8x8": TokenizerRecipe(preset="nano-cv4x8x8", stages=_NANO),
    "nano-dv4x8x8": TokenizerRecipe(preset="nano-dv4x8x8", stages=_NANO),
    "tokenizer-toy": TokenizerRecipe(preset="nano-cv4x8x8", stages=_TOY, validation_clips=2),
}
"""Name to recipe; ``tokenizer-toy`` runs in seconds and is for trying things out."""


class Reconstruction:
    """Objective: root mean squared error of each clip, averaged over the batch.

    The root stands between two choices that err: plain squares leave easy clips blurred, and their logarithm, which
    PSNR is, gives up on fast motion.
    """

    def __init__(
        self,
        module: CausalTokenizer,
        stage: Stage,
        *,
        training: UInt8[np.ndarray, "N T H W 3"],
        development: UInt8[np.ndarray, "M t h w 3"],
    ) -> None:
        self.module = module
        self.stage = stage
        self._training = training
        self._development = [holdout.HeldOut(name="development", frames=clip) for clip in development]

    def loss(self, step: int) -> Tensor:
        """Loss of the batch that ``step`` and the stage's seed choose."""
        video = self._batch(step)
        error = (self.module(video) - video).square().mean(dim=(1, 2, 3, 4))
        return (error + 1e-6).sqrt().mean()

    def validate(self, module: nn.Module) -> dict[str, float]:
        """PSNR per frame in dB on development clips, as on held-out ones."""
        return {"psnr": fmean(holdout.score(clip, "", module).per_frame for clip in self._development)}

    def _batch(self, step: int) -> Float[Tensor, "B 3 T H W"]:
        stage = self.stage
        rng = np.random.default_rng((stage.loop.seed, step))
        count, length, height, width, _ = self._training.shape
        clips = []
        for index in rng.integers(count, size=stage.batch):
            t = rng.integers(length - stage.frames + 1)
            y, x = rng.integers(height - stage.crop + 1), rng.integers(width - stage.crop + 1)
            clip = self._training[index, t : t + stage.frames, y : y + stage.crop, x : x + stage.crop]
            clip = clip[:: rng.choice((-1, 1))]
            clips.append(clip[:, :, :: rng.choice((-1, 1))])
        return to_video(np.stack(clips))


def run(recipe: TokenizerRecipe, pool: Path, out: Path, *, resume: bool = False) -> CausalTokenizer:
    """Train ``recipe`` on a pool of :mod:`cosmos_posttrain.clip_pool` and return the averaged weights.

    Each stage is a run of its own in ``out/<stage>``; with ``resume``, finished stages are not run again.

    Raises:
        InputError: the pool or the run folder is not what it should be.
    """
    first = recipe.stages[0]
    frames, side = max(stage.frames for stage in recipe.stages), max(stage.crop for stage in recipe.stages)
    training = clip_pool.open_split(pool, frames=frames, side=side)
    development = clip_pool.open_split(pool, "development", side=side)[: recipe.validation_clips]
    torch.manual_seed(first.loop.seed)
    model = CausalTokenizer(PRESETS[recipe.preset])
    chosen = np.random.default_rng(first.loop.seed).choice(
        len(training), min(START_CLIPS, len(training)), replace=False
    )
    pca_start.start(model, to_video(training[np.sort(chosen)][:, : first.frames]))
    for stage in recipe.stages:
        objective = Reconstruction(model, stage, training=training, development=development)
        model.load_state_dict(train(objective, stage.loop, out / stage.name, resume=resume).state_dict())
    pca_start.finish(model)
    if model.config.kind == "continuous":
        model.statistics = measure_statistics(model, training[:STATISTICS_CLIPS])
    return model


@torch.no_grad()
def measure_statistics(model: CausalTokenizer, clips: UInt8[np.ndarray, "N T H W 3"]) -> LatentStatistics:
    """Mean and deviation of the latents of some clips, per channel and latent frame."""
    z_NCTHW = torch.cat([model.encode(to_video(clip[None])) for clip in clips]).double()
    return LatentStatistics(z_NCTHW.mean((0, 3, 4)), z_NCTHW.std((0, 3, 4)))
