"""PSNR by both definitions in use, and SSIM (Wang et al. 2004) with scikit-image's defaults; all in float64.

PSNR per frame averages the decibels of single frames (the training-time metric); PSNR per video takes one mean error
over all frames (TokenBench). The first is never lower where no frame is identical. Samples are widened before they are
subtracted: 8-bit differences wrap around, and published Cosmos tables before 2025 were computed that way.
"""

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float64, Num
from torch import Tensor

WINDOW = 7
"""Side of SSIM's window: uniform weights, sample covariance, and only windows that lie wholly inside the picture."""


def psnr_per_frame(
    reference: Num[Tensor, "T H W C"], other: Num[Tensor, "_T _H _W _C"], *, data_range: float | None = None
) -> Float64[Tensor, " T"]:
    """Return the PSNR of every frame in dB, infinite where two frames are identical.

    `data_range` is 255 for 8-bit input and must be given for floats: 2.0 for videos in [-1, 1].
    """
    peak = _data_range(reference, other, data_range)
    return 10 * torch.log10(peak**2 / squared_error_per_frame(reference, other))


def psnr_per_video(
    reference: Num[Tensor, "T H W C"], other: Num[Tensor, "_T _H _W _C"], *, data_range: float | None = None
) -> float:
    """Return the PSNR of the mean squared error over all frames in dB, infinite where they are identical."""
    peak = _data_range(reference, other, data_range)
    return float(10 * torch.log10(peak**2 / squared_error_per_frame(reference, other).mean()))


def ssim_per_frame(
    reference: Num[Tensor, "T H W C"], other: Num[Tensor, "_T _H _W _C"], *, data_range: float | None = None
) -> Float64[Tensor, " T"]:
    """Return the mean SSIM of every frame, over positions and channels: 7x7 uniform window, K1 0.01, K2 0.03."""
    peak = _data_range(reference, other, data_range)
    if min(reference.shape[1:3]) < WINDOW:
        size = "x".join(map(str, reference.shape[1:3]))
        raise ValueError(f"SSIM needs frames of at least {WINDOW}x{WINDOW}, not {size}; leave it out for these")
    return torch.stack([_ssim(a, b, peak) for a, b in _frame_pairs(reference, other)])


def squared_error_per_frame(
    reference: Num[Tensor, "T H W C"], other: Num[Tensor, "_T _H _W _C"]
) -> Float64[Tensor, " T"]:
    """Return the mean squared error of every frame, of which the others are made."""
    return torch.stack([(a - b).square().mean() for a, b in _frame_pairs(reference, other)])


def finite_mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values, and infinity where there are none: one identical frame hides no other."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.inf


def _ssim(x_HWC: Tensor, y_HWC: Tensor, peak: float) -> Tensor:
    maps_NHWC = torch.stack([x_HWC, y_HWC, x_HWC.square() + y_HWC.square(), x_HWC * y_HWC])
    maps = rearrange(maps_NHWC, "N H W C -> N C H W").contiguous()
    mean_x, mean_y, squares, product = F.avg_pool2d(F.avg_pool2d(maps, (WINDOW, 1), stride=1), (1, WINDOW), stride=1)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    means = mean_x.square() + mean_y.square()
    variances, covariance = sample * (squares - means), sample * (product - mean_x * mean_y)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((means + c1) * (variances + c2))).mean()


def _frame_pairs(reference: Tensor, other: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Widen one frame at a time: a whole clip in float64 would be eight times its size."""
    for a, b in zip(reference, other, strict=True):
        yield a.to(torch.float64), b.to(torch.float64)


def _data_range(reference: Tensor, other: Tensor, data_range: float | None) -> float:
    if reference.shape != other.shape or reference.ndim != 4 or reference.numel() == 0:
        shapes = f"{tuple(reference.shape)} and {tuple(other.shape)}"
        raise ValueError(f"frames T H W C must agree in shape and hold something, not {shapes}; crop one to the other")
    if data_range is not None:
        return data_range
    if reference.dtype == torch.uint8 and other.dtype == torch.uint8:
        return 255.0
    raise ValueError(f"data_range is unknown for {reference.dtype} and {other.dtype}; give it, 2.0 for [-1, 1]")
