"""The figures of `metrics` for a clip that is compared piece by piece, and the worst frames so far."""

import heapq
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from cosmos_tokenizer.metrics import squared_error_per_frame, ssim_per_frame


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One frame before and after, for looking at."""

    label: str
    psnr: float
    before: UInt8[np.ndarray, "H W 3"]
    after: UInt8[np.ndarray, "H W 3"]


class Tally:
    """Adds up errors over 8-bit frames in float64, as if the clip had been compared whole.

    Args:
        name: of the clip, for the labels of samples.
        samples: frames that are kept at most, those of the lowest PSNR.
        span: frames of which one is kept: neighbours look alike.
    """

    def __init__(self, name: str, *, samples: int, span: int) -> None:
        self._name, self._samples, self._span = name, samples, span
        self._frames = self._identical = 0
        self._squared_error = self._ssim = self._decibels = 0.0
        self._worst: list[tuple[float, int, Sample]] = []
        self._of_span: tuple[float, int, Sample] | None = None

    def add(self, before: UInt8[np.ndarray, "T H W 3"], after: UInt8[np.ndarray, "T H W 3"]) -> None:
        """Compare the next frames."""
        x, y = torch.from_numpy(before), torch.from_numpy(after)
        errors = squared_error_per_frame(x, y)
        self._squared_error += float(errors.sum())
        self._ssim += float(ssim_per_frame(x, y).sum())
        for index, error in enumerate(errors.tolist()):
            psnr = _decibels(error)
            if math.isfinite(psnr):
                self._decibels += psnr
            else:
                self._identical += 1
            self._look_at(psnr, before[index], after[index])
            self._frames += 1

    @property
    def frames(self) -> int:
        """Frames so far."""
        return self._frames

    @property
    def identical_frames(self) -> int:
        """Frames without any error."""
        return self._identical

    @property
    def psnr_frame(self) -> float:
        """Mean PSNR in dB over the frames that are not identical; infinite where all are."""
        differing = self._frames - self._identical
        return self._decibels / differing if differing else math.inf

    @property
    def psnr_video(self) -> float:
        """PSNR in dB of the mean squared error over all frames; infinite where all are identical."""
        return _decibels(self._squared_error / self._frames)

    @property
    def ssim(self) -> float:
        """Mean SSIM over frames."""
        return self._ssim / self._frames

    @property
    def worst(self) -> list[Sample]:
        """The worst frame of each span, of the worst spans, in the order of the clip."""
        kept = [*self._worst, *([] if self._of_span is None else [self._of_span])]
        found = heapq.nsmallest(self._samples, kept, key=lambda entry: entry[:2])
        return [sample for _, _, sample in sorted(found, key=lambda entry: entry[1])]

    def _look_at(self, psnr: float, before: np.ndarray, after: np.ndarray) -> None:
        if self._frames % self._span == 0 and self._of_span is not None:
            self._worst = heapq.nsmallest(self._samples, [*self._worst, self._of_span], key=lambda entry: entry[:2])
            self._of_span = None
        if self._of_span is None or psnr < self._of_span[0]:
            label = f"{self._name}, frame {self._frames}"
            sample = Sample(label=label, psnr=psnr, before=before.copy(), after=after.copy())
            self._of_span = (psnr, self._frames, sample)


def _decibels(squared_error: float) -> float:
    return 10 * math.log10(255**2 / squared_error) if squared_error else math.inf
