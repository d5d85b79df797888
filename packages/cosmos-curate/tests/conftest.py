"""What tests share: small videos written frame by frame, with exact times."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    rate: int = 24,
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    crf: int = 18,
    pixel_format: str = "yuv420p",
) -> Path:
    """Write `T H W 3` uint8 frames, evenly spaced or at the given times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = base = Fraction(1, 90000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = round((index / rate if times_s is None else times_s[index]) * 90000)
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def video() -> Callable[..., Path]:
    """Return the function that writes a video."""
    return write_video


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return an `H W 3` uint8 picture with detail at all scales, as photographs have."""
    import cv2

    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 8):
        side = 2**octave
        noise = rng.normal(size=(side, side, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 40 / 2 ** (octave - 2) ** 0.5
    return np.clip(total + 128, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Return the function that makes a textured picture."""
    return texture
