"""The stage that scores a clip's technical quality."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.models.cache import sha256
from cosmos_curate.quality.blocking import blockiness
from cosmos_curate.quality.blur import soft_share
from cosmos_curate.quality.brisque import WEIGHTS, Regression, brisque, load_regression
from cosmos_curate.quality.colour import colorfulness, luma
from cosmos_curate.quality.dover import Dover
from cosmos_curate.quality.noise import noise_deviation
from cosmos_curate.quality.score import technical_quality
from cosmos_curate.quality.scorer import QualityScorer
from cosmos_curate.stage import Columns, Item, Process, Stage

_SMALLEST = 16


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Which frames are judged, and by what.

    Args:
        rate: frames a second.
        most: frames of a clip at most, spread evenly.
        short_side: frames with more pixels on their shorter side are reduced to it first; None for never. Reducing
            hides fine noise and moves the grid of blocks, and BRISQUE was trained on pictures of about 512 lines.
        scorer: takes the place of the built-in quality; the other columns stay.
    """

    rate: float = 1.0
    most: int = 8
    short_side: int | None = 1080
    scorer: Dover | QualityScorer | None = None

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"quality rate {self.rate} is not a number of frames a second above 0")
        if self.most < 1:
            raise InputError(f"quality most {self.most} leaves no frame: give 1 or more")
        if self.short_side is not None and self.short_side < _SMALLEST:
            raise InputError(f"quality short_side {self.short_side} is too small to judge: give {_SMALLEST} or more")

    @property
    def sampling(self) -> Sampling:
        """The frames of the built-in measures."""
        return Sampling(rate=self.rate, most=self.most, short_side=self.short_side)


def quality_stage(config: QualityConfig | None = None) -> Stage:
    """Return the stage that writes quality, brisque, blur, blockiness, brightness and colorfulness.

    BRISQUE, blur, brightness and colorfulness are medians over the frames; the grid of blocks is sought in all of
    them together. Clips under 16 pixels on a side are unusable.
    """
    config = config or QualityConfig()
    scorer = config.scorer
    weights = {"brisque": sha256(WEIGHTS)}
    settings: dict[str, object] = {"rate": config.rate, "most": config.most, "short_side": config.short_side}
    if scorer is not None:
        settings["scorer"] = dict(scorer.settings)
        weights |= scorer.weights
    samplings = (config.sampling,) if scorer is None else tuple(dict.fromkeys((config.sampling, scorer.sampling)))
    return Stage(
        name="quality",
        version=1,
        over="clip",
        open=functools.partial(_open, config),
        writes=("quality", "brisque", "blur", "blockiness", "brightness", "colorfulness"),
        samplings=samplings,
        settings=settings,
        weights=weights,
    )


def _open(config: QualityConfig) -> Process:
    scorer = config.scorer
    judge = None if scorer is None else (scorer.sampling, scorer.open())
    return functools.partial(_process, config.sampling, load_regression(), judge)


def _process(
    sampling: Sampling,
    regression: Regression,
    judge: tuple[Sampling, Callable[[Frames], float]] | None,
    item: Item,
    frames: Mapping[Sampling, Frames],
) -> Columns:
    pictures = frames[sampling].pixels
    if min(pictures.shape[1:3]) < _SMALLEST:
        raise Unusable(f"picture of {pictures.shape[2]}x{pictures.shape[1]} is too small to judge")
    lumas = np.stack([luma(picture) for picture in pictures])
    natural = float(np.median([brisque(one, regression) for one in lumas]))
    soft = float(np.median([soft_share(one) for one in lumas]))
    blocks = blockiness(lumas)
    if judge is not None:
        wanted, score = judge
        quality = score(frames[wanted])
    else:
        noise = float(np.median([noise_deviation(one) for one in lumas]))
        quality = technical_quality(natural, soft, blocks, noise)
    return {
        "quality": quality,
        "brisque": natural,
        "blur": soft,
        "blockiness": blocks,
        "brightness": float(np.median(lumas.mean((1, 2), dtype=np.float64))) / 255,
        "colorfulness": float(np.median([colorfulness(picture) for picture in pictures])),
    }
