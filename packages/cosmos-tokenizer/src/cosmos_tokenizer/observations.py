"""What an evaluation watches beside PSNR and SSIM: codes as they are made, and figures of networks from files.

The frames that a network looks at are kept at its own size until their clip ends: memory does not grow with the clip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cosmos_tokenizer.metrics import (
    LPIPS,
    CodeUsage,
    FeatureNetwork,
    FeatureStatistics,
    bootstrap_interval,
    sample_warning,
)

KEPT = 10_000
"""Pairs of feature vectors that are kept for an interval at most; past them there is a figure and no interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """Networks of pictures, of clips and of pairs of frames, each of which may be absent."""

    fid: FeatureNetwork | None = None
    fvd: FeatureNetwork | None = None
    lpips: LPIPS | None = None


class Observations:
    """Everything watched over all clips.

    Args:
        levels: of a discrete model; None for a continuous one.
    """

    def __init__(self, levels: Sequence[int] | None, networks: Networks) -> None:
        self._levels, self._networks = levels, networks
        self.codes = None if levels is None else CodeUsage(levels)
        self.pictures = None if networks.fid is None else FeaturePairs(networks.fid)
        self.clips = None if networks.fvd is None else FeaturePairs(networks.fvd)

    def begin(self, *, still: bool) -> "ClipObservations":
        """Watch one clip: a still one counts for rFID, and any other for rFVD."""
        return ClipObservations(self, self._levels, self._networks.lpips, self.pictures if still else self.clips)


class ClipObservations:
    """What is watched of one clip."""

    def __init__(
        self, of: Observations, levels: Sequence[int] | None, lpips: LPIPS | None, pairs: "FeaturePairs | None"
    ) -> None:
        self._of, self._lpips, self._pairs = of, lpips, pairs
        self._codes = None if levels is None else CodeUsage(levels)
        self._prepared: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._frames = self._taken = 0
        self._distances = 0.0

    def tokens(self, tokens: Tensor) -> None:
        """See what was encoded."""
        if self._codes is not None:
            self._codes.update(tokens)

    def frames(self, before: UInt8[np.ndarray, "T H W 3"], after: UInt8[np.ndarray, "T H W 3"]) -> None:
        """See frames and their reconstructions."""
        x, y = torch.from_numpy(before), torch.from_numpy(after)
        self._frames += len(x)
        if self._lpips is not None:
            self._distances += float(self._lpips.per_frame(x, y).sum())
        if self._pairs is not None and (more := min(len(x), self._pairs.network.frames - self._taken)):
            self._taken += more
            for kept, frames in zip(self._prepared, (x, y), strict=True):
                kept.append(self._pairs.network.prepare(frames[:more]))

    def finish(self) -> dict[str, float | None]:
        """Add the clip to all of them, and return its own figures; None: not measured."""
        if self._pairs is not None:
            self._pairs.add(*(torch.cat(kept) for kept in self._prepared))
        if self._codes is not None and self._of.codes is not None:
            self._of.codes.merge(self._codes)
        lpips = None if self._lpips is None else self._distances / self._frames
        return {"lpips": lpips} | code_figures(self._codes)


class FeaturePairs:
    """Features of originals and reconstructions as one network sees them, and their Fréchet distance."""

    def __init__(self, network: FeatureNetwork) -> None:
        self.network = network
        self._sides = (FeatureStatistics(), FeatureStatistics())
        self._kept: tuple[list[Tensor], list[Tensor]] | None = ([], [])

    @property
    def samples(self) -> int:
        """Pairs so far."""
        return self._sides[0].count

    def add(self, before: Tensor, after: Tensor) -> None:
        """Take in one pair of prepared clips."""
        for side, prepared in enumerate((before, after)):
            features = self.network.features(prepared).float().cpu()  # float64 is not on every device
            self._sides[side].update(features[None])
            if self._kept is not None:
                self._kept[side].append(features)
        if self.samples > KEPT:
            self._kept = None

    def result(self, done: Callable[[int], None] | None = None) -> dict[str, Any]:
        """The distance with what it is worth, by name; `done` hears of the interval's resamples.

        Raises:
            InputError: there are fewer than two pairs.
        """
        before, after = self._sides
        interval = None
        if self._kept is not None:
            interval = bootstrap_interval(*(torch.stack(kept) for kept in self._kept), done=done)
        return {
            "value": before.distance(after),
            "samples": before.count,
            "features": before.dimension,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "bias": None if interval is None else interval.bias,
            "warning": sample_warning(before.count, before.dimension, customary=self.network.customary),
        }


def code_figures(codes: CodeUsage | None) -> dict[str, float | None]:
    """Usage and perplexity by name; None without codes."""
    if codes is None:
        return {"code_usage": None, "code_perplexity": None, "code_bits": None}
    return {"code_usage": codes.usage, "code_perplexity": codes.perplexity, "code_bits": codes.entropy_bits}


def sentence(name: str, result: dict[str, Any]) -> str:
    """A figure of `FeaturePairs.result` as one line."""
    line = f"{name} {result['value']:.4g} over {result['samples']} samples of {result['features']} features"
    if result["low"] is not None:
        line += f", 95% [{result['low']:.4g}, {result['high']:.4g}], bias about {result['bias']:.2g}"
    return line if result["warning"] is None else f"{line}\n  {result['warning']}"
