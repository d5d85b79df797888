"""Grey textures drawn from numbers alone: checks, stripes, planks, tiles, clouds and speckles."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from PIL import Image

SIDE = 128
"""Pixels of a texture, which repeats without a seam."""

Grey = Float[np.ndarray, "128 128"]


def _places() -> tuple[np.ndarray, np.ndarray]:
    return np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE, indexing="ij")


def checks(rng: Generator) -> Grey:
    """A chequered board of 2x2 to 4x4 fields."""
    y, x = _places()
    fields = 2 * int(rng.integers(1, 3))
    return (np.floor(fields * y) + np.floor(fields * x)) % 2


def stripes(rng: Generator) -> Grey:
    """Two to four bands."""
    _, x = _places()
    return np.floor(2 * int(rng.integers(1, 3)) * x) % 2


def planks(rng: Generator) -> Grey:
    """Boards with dark joints, each of its own shade."""
    y, x = _places()
    boards = int(rng.integers(3, 6))
    shades, at = rng.uniform(0.4, 1, boards), boards * x
    return np.where(np.minimum(at % 1, 1 - at % 1) < 0.06, 0, shades[at.astype(int)] + 0.04 * np.sin(12 * np.pi * y))


def tiles(rng: Generator) -> Grey:
    """Squares of their own shades between light joints."""
    y, x = _places()
    count = int(rng.integers(2, 5))
    shades, (row, column) = rng.uniform(0, 0.7, (count, count)), (count * y, count * x)
    joint = np.minimum(np.minimum(row % 1, 1 - row % 1), np.minimum(column % 1, 1 - column % 1)) < 0.05
    return np.where(joint, 1.0, shades[row.astype(int), column.astype(int)])


def clouds(rng: Generator) -> Grey:
    """Noise whose waves are the weaker the shorter they are."""
    return _noise(rng, slope=rng.uniform(1.2, 1.8))


def speckles(rng: Generator) -> Grey:
    """Noise as of gravel."""
    return _noise(rng, slope=rng.uniform(0.5, 0.8))


PATTERNS: Mapping[str, Callable[[Generator], Grey]] = {
    "checks": checks,
    "stripes": stripes,
    "planks": planks,
    "tiles": tiles,
    "clouds": clouds,
    "speckles": speckles,
}


def texture(name: str, rng: Generator, *, darkest: float) -> bytes:
    """Return one of `PATTERNS` as a PNG, from `darkest` (0 to 1) to white."""
    grey = np.clip(PATTERNS[name](rng), 0, 1)
    levels = np.round(255 * (darkest + (1 - darkest) * grey)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(levels[..., None], 3, axis=-1)).save(buffer, "png")
    return buffer.getvalue()


def _noise(rng: Generator, *, slope: float) -> Grey:
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) * SIDE
    weight = np.where(frequency > 0, np.maximum(frequency, 1.0) ** -slope, 0)
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * weight, s=(SIDE, SIDE))
    return 0.5 + noise / (5 * noise.std())
