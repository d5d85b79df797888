"""Embedding of a clip from its frames: what near-duplicates share and different shots do not.

Pooled features are all positive, so that any two clips look alike; and a codec's noise moves them. Hence, in order:
frames lose their fine detail first (`SOFT` pixels a side); features go through a logarithm, less that of their mean
over the network's training photographs; the clip's three parts in time, which overlap where frames are few, become
their sum, first and second difference (a cosine transform, so that angles stay); and random signs project those three
to 512, 256 and 256 numbers, about keeping angles (Achlioptas 2003). The sum, which heads learn most from, gets half.
"""

import hashlib

import numpy as np
from jaxtyping import Float16, Float32

FRAMES = 6
"""Of a clip, spread evenly."""
SOFT = 112
"""Pixels a side that a frame keeps: compression shows above, the scene below."""
WIDTHS = (512, 256, 256)
SIZE = sum(WIDTHS)
PARTS = 3
LOUDNESS = 4.0
"""Of log(1 + LOUDNESS x): a feature is about 0.2 on average and rarely above 3."""
TIME = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))


def projection(features: int) -> Float32[np.ndarray, "F 1024"]:
    """Return the matrices of random signs side by side, the same on every machine, each column block of its width."""
    blocks = []
    for index, width in enumerate(WIDTHS):
        source = hashlib.shake_256(f"cosmos-curate embedding {index}".encode())
        bits = np.unpackbits(np.frombuffer(source.digest(features * width // 8), np.uint8))
        blocks.append((bits.reshape(features, width) * 2.0 - 1.0) / width**0.5)
    return np.concatenate(blocks, 1).astype(np.float32)


def embed(projected: Float32[np.ndarray, "T 1024"]) -> Float16[np.ndarray, "1024"]:
    """Return a clip's embedding, of length 1, from its frames' centred and projected features, in order of time."""
    count = len(projected)
    parts = [
        projected[part * count // PARTS : max(part * count // PARTS + 1, -(-(part + 1) * count // PARTS))].mean(0)
        for part in range(PARTS)
    ]
    bounds = np.cumsum((0, *WIDTHS))
    joined = np.concatenate(
        [
            sum(weight * part[start:end] for weight, part in zip(weights, parts, strict=True))
            for weights, start, end in zip(TIME, bounds[:-1], bounds[1:], strict=True)
        ]
    ).astype(np.float64)
    # Sums, not BLAS: the same bits whatever the number of threads.
    length = np.sqrt((joined * joined).sum())
    return (joined / max(length, 1e-12)).astype(np.float16)
