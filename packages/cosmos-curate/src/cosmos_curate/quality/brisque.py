"""BRISQUE: no-reference quality from statistics of natural scenes (Mittal, Moorthy, Bovik, IEEE TIP 21(12), 2012)."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

WEIGHTS = Path(__file__).with_name("brisque_live.npz")
"""Support-vector regression trained on the LIVE database; brisque_live.md says where it comes from."""

_WINDOW = 7
_DEVIATION = 7 / 6
_SHAPES = (0.2, 10.0)


@dataclass(frozen=True, eq=False)
class Regression:
    """Support-vector regression with a Gaussian kernel over features scaled to [-1, 1] by `low` and `high`."""

    coefficients: Float64[np.ndarray, "N"]
    vectors: Float64[np.ndarray, "N 36"]
    low: Float64[np.ndarray, "36"]
    high: Float64[np.ndarray, "36"]
    gamma: float
    rho: float

    def __call__(self, features: Float64[np.ndarray, "36"]) -> float:
        """Return the predicted difference of mean opinion scores: about 0 for pristine, 100 for the worst."""
        scaled = -1 + 2 * (features - self.low) / (self.high - self.low)
        distances = ((self.vectors - scaled) ** 2).sum(1)
        return float(self.coefficients @ np.exp(-self.gamma * distances) - self.rho)


def load_regression(path: Path = WEIGHTS) -> Regression:
    """Read a regression from its npz file."""
    with np.load(path) as stored:
        return Regression(
            coefficients=stored["coefficients"],
            vectors=stored["vectors"].astype(np.float64),
            low=stored["low"],
            high=stored["high"],
            gamma=float(stored["gamma"]),
            rho=float(stored["rho"]),
        )


def normalised(luma: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Return mean-subtracted, contrast-normalised luma: equations 1 to 3, zeros beyond the border, luma 0 to 255."""
    import cv2

    window = cv2.getGaussianKernel(_WINDOW, _DEVIATION, cv2.CV_32F)
    mean = cv2.sepFilter2D(luma, cv2.CV_32F, window, window, borderType=cv2.BORDER_CONSTANT)
    square = cv2.sepFilter2D(luma * luma, cv2.CV_32F, window, window, borderType=cv2.BORDER_CONSTANT)
    return (luma - mean) / (np.sqrt(np.abs(square - mean * mean)) + 1)


@functools.cache
def _shape_table() -> tuple[Float64[np.ndarray, "K"], Float64[np.ndarray, "K"]]:
    """Return shapes and the ratio (E|x|)^2 / E[x^2] of a generalised Gaussian of each, which rises with the shape."""
    shapes = np.linspace(*_SHAPES, 9801)
    logs = [2 * math.lgamma(2 / s) - math.lgamma(1 / s) - math.lgamma(3 / s) for s in shapes.tolist()]
    return shapes, np.exp(logs)


def fit(values: Float32[np.ndarray, "H W"]) -> tuple[float, float, float, float]:
    """Fit an asymmetric generalised Gaussian by moments (equations 7 to 10 of the paper).

    Returns:
        Its shape, within 0.2 and 10, its mean, and the variances left and right of zero. One with no value on a side
        counts that side's variance as the least positive number that keeps ratios finite.
    """
    positive = np.maximum(values, 0)
    total = float(np.vdot(values, values))
    right_total = float(np.vdot(positive, positive))
    right_count = np.count_nonzero(values >= 0)
    left = max((total - right_total) / max(values.size - right_count, 1), 1e-12)
    right = max(right_total / max(right_count, 1), 1e-12)
    absolute = float(np.abs(values).mean(dtype=np.float64))
    ratio = absolute**2 / max(total / values.size, 1e-12)
    balance = math.sqrt(left / right)
    ratio *= (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    shapes, ratios = _shape_table()
    shape = float(np.interp(ratio, ratios, shapes))
    scale = math.exp(math.lgamma(2 / shape) - 0.5 * (math.lgamma(1 / shape) + math.lgamma(3 / shape)))
    return shape, (math.sqrt(right) - math.sqrt(left)) * scale, left, right


def features(luma: Float32[np.ndarray, "H W"]) -> Float64[np.ndarray, "36"]:
    """Return the 36 features of table I: 18 of the picture, 18 of it at half the size; sides of 2 pixels at least."""
    import cv2

    found: list[float] = []
    for picture in (luma, cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)):
        field = normalised(picture)
        shape, _, left, right = fit(field)
        found += [shape, (left + right) / 2]
        for product in (
            field[:, :-1] * field[:, 1:],
            field[:-1] * field[1:],
            field[:-1, :-1] * field[1:, 1:],
            field[1:, :-1] * field[:-1, 1:],
        ):
            found += fit(product)
    return np.array(found)


def brisque(luma: Float32[np.ndarray, "H W"], regression: Regression) -> float:
    """Return BRISQUE of a picture, lower is better; unclipped, so it may leave 0 to 100 a little.

    Args:
        luma: 0 to 255, 4 pixels a side at least.
    """
    return regression(features(luma))
