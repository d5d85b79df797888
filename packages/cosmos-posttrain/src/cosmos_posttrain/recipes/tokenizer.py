"""Training of the small tokenizers that ship with cosmos-tokenizer: reconstruction of clips, from a linear start."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cosmos_posttrain import clip_pool, pca_start
from cosmos_posttrain.loop import LoopConfig, train
from cosmos_tokenizer import PRESETS, CausalTokenizer, LatentStatistics

START_CLIPS = 48
STATISTICS_CLIPS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRecipe:
    """A tokenizer of ``cosmos_tokenizer.PRESETS``, what it sees of each clip, and how long."""

    preset: str
    loop: LoopConfig
    batch: int = 8
    frames: int = 9
    crop: int = 64
    validation_clips: int = 16


RECIPES = {
    "nano-cv4x8x8": TokenizerRecipe(preset="nano-cv4x8x8", loop=LoopConfig(steps=2400, learning_rate=5e-4, ema=0.998)),
    "nano-dv4x8x8": TokenizerRecipe(preset="nano-dv4x8x8", loop=LoopConfig(steps=2400, learning_rate=5e-4, ema=0.998)),
    "tokenizer-toy": TokenizerRecipe(
        preset="nano-cv4x8x8",
        loop=LoopConfig(steps=8, learning_rate=5e-4, save_every=4, validate_every=4),
        batch=2,
        validation_clips=2,
    ),
}
"""Name to recipe; ``tokenizer-toy`` runs in seconds and is for trying things out."""


class Reconstruction:
    """Objective: root mean squared error of each clip, averaged over the batch.

    The root stands between two choices that err: plain squares leave easy clips blurred, and their logarithm, which
    PSNR is, gives up on fast motion.
    """

    def __init__(self, module: CausalTokenizer, pool: Path, recipe: TokenizerRecipe) -> None:
        self.module = module
        self.recipe = recipe
        self._training = clip_pool.open_split(pool)
        self._validation = to_video(clip_pool.open_split(pool, "development")[: recipe.validation_clips])

    def loss(self, step: int) -> Tensor:
        """Loss of the batch that ``step`` and the recipe's seed choose."""
        video = self._batch(step)
        error = (self.module(video) - video).square().mean(dim=(1, 2, 3, 4))
        return (error + 1e-6).sqrt().mean()

    def validate(self, module: nn.Module) -> dict[str, float]:
        """PSNR in dB on development clips, frame by frame, values clamped to [-1, 1]."""
        psnr = [frame_psnr(module(clip[None]).clamp(-1, 1), clip[None]) for clip in self._validation]
        return {"psnr": torch.stack(psnr).mean().item()}

    def _batch(self, step: int) -> Float[Tensor, "B 3 T H W"]:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.loop.seed, step))
        count, length, height, width, _ = self._training.shape
        clips = []
        for index in rng.integers(count, size=recipe.batch):
            t = rng.integers(length - recipe.frames + 1)
            y, x = rng.integers(height - recipe.crop + 1), rng.integers(width - recipe.crop + 1)
            clip = self._training[index, t : t + recipe.frames, y : y + recipe.crop, x : x + recipe.crop]
            clip = clip[:: rng.choice((-1, 1))]
            clips.append(clip[:, :, :: rng.choice((-1, 1))])
        return to_video(np.stack(clips))


def to_video(frames: np.ndarray) -> Float[Tensor, "B 3 T H W"]:
    """uint8 ``B T H W 3`` to floats in [-1, 1]."""
    return rearrange(torch.from_numpy(np.array(frames)), "b t h w c -> b c t h w").float() / 127.5 - 1


def frame_psnr(video: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB, averaged over the frames of ``1 3 T H W`` clips in [-1, 1]."""
    return (10 * torch.log10(4 / (video - target).square().mean(dim=(1, 3, 4)).clamp_min(1e-10))).mean()


def run(recipe: TokenizerRecipe, pool: Path, out: Path, *, resume: bool = False) -> CausalTokenizer:
    """Train ``recipe`` on a pool of :mod:`cosmos_posttrain.clip_pool` and return the averaged weights.

    Raises:
        InputError: the pool or the run folder is not what it should be.
    """
    torch.manual_seed(recipe.loop.seed)
    model = CausalTokenizer(PRESETS[recipe.preset])
    training = clip_pool.open_split(pool)
    chosen = np.random.default_rng(recipe.loop.seed).choice(
        len(training), min(START_CLIPS, len(training)), replace=False
    )
    pca_start.start(model, to_video(training[np.sort(chosen)][:, : recipe.frames]))
    averaged = train(Reconstruction(model, pool, recipe), recipe.loop, out, resume=resume)
    assert isinstance(averaged, CausalTokenizer)
    pca_start.finish(averaged)
    if averaged.config.kind == "continuous":
        averaged.statistics = measure_statistics(averaged, training[:STATISTICS_CLIPS])
    return averaged


@torch.no_grad()
def measure_statistics(model: CausalTokenizer, clips: UInt8[np.ndarray, "N T H W 3"]) -> LatentStatistics:
    """Mean and deviation of the latents of some clips, per channel and latent frame."""
    z_NCTHW = torch.cat([model.encode(to_video(clip[None])) for clip in clips]).double()
    return LatentStatistics(z_NCTHW.mean((0, 3, 4)), z_NCTHW.std((0, 3, 4)))
