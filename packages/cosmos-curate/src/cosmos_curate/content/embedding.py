"""Embedding of a clip from its frames: what near-duplicates share and different shots do not.

Pooled features are all positive, so that any two clips look alike; and a codec's noise moves them. Hence, in order:
features go through a logarithm, less that of their mean over the network's training photographs; random signs project
them, about keeping angles (Achlioptas 2003). Most of the embedding is of frames without fine detail (`SOFT` pixels a
side): the clip's three parts in time, which overlap where frames are few, become their sum, first and second
difference (a cosine transform, which keeps angles). The rest is of a few frames as they are: small in a cosine, but
what a head needs to see print and texture.
"""

import hashlib

import numpy as np
from jaxtyping import Float16, Float32

FRAMES = 6
"""Of a clip, spread evenly."""
SOFT = 40
"""Pixels a side that a soft frame keeps: compression shows above, the scene below."""
WIDTHS = (256, 128, 128)
"""Of the soft part: numbers for the sum and the two differences."""
SHARP_WIDTH = 512
SHARP_SHARE = 0.1
"""Of a cosine, that the sharp part gives."""
SIZE = sum(WIDTHS) + SHARP_WIDTH
LOUDNESS = 4.0
"""Of log(1 + LOUDNESS x): a feature is about 0.2 on average and rarely above 3."""
TIME = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))


def projection(features: int) -> Float32[np.ndarray, "F 1024"]:
    """Return the matrices of random signs side by side, for WIDTHS and SHARP_WIDTH; the same on every machine."""
    blocks = []
    for index, width in enumerate((*WIDTHS, SHARP_WIDTH)):
        source = hashlib.shake_256(f"cosmos-curate embedding {index}".encode())
        bits = np.unpackbits(np.frombuffer(source.digest(features * width // 8), np.uint8))
        blocks.append((bits.reshape(features, width) * 2.0 - 1.0) / width**0.5)
    return np.concatenate(blocks, 1).astype(np.float32)


def sharp_frames(count: int) -> list[int]:
    """Return which of so many frames are seen in full detail: the middle of each third."""
    return sorted({(2 * part + 1) * count // 6 for part in range(3)})


def embed(soft: Float32[np.ndarray, "T 1024"], sharp: Float32[np.ndarray, "S 1024"]) -> Float16[np.ndarray, "1024"]:
    """Return a clip's embedding, of length 1, from centred and projected features of its frames in order of time."""
    count = len(soft)
    parts = [
        soft[part * count // 3 : max(part * count // 3 + 1, -(-(part + 1) * count // 3))].mean(0, np.float64)
        for part in range(3)
    ]
    joined, start = [], 0
    for width, weights in zip(WIDTHS, TIME, strict=True):
        first, second, third = (part[start : start + width] for part in parts)
        joined.append(weights[0] * first + weights[1] * second + weights[2] * third)
        start += width
    detail = sharp[:, start:].mean(0, np.float64)
    return np.concatenate(
        [(1 - SHARP_SHARE) ** 0.5 * unit(np.concatenate(joined)), SHARP_SHARE**0.5 * unit(detail)]
    ).astype(np.float16)


def unit(numbers: np.ndarray) -> np.ndarray:
    """Return it at length 1, by sums and not BLAS: the same bits whatever the number of threads."""
    return numbers / max(np.sqrt((numbers * numbers).sum()), 1e-12)
