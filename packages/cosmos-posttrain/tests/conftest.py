"""What tests share: a small pool of smooth moving clips, as `clip_pool.build` would lay it out."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a pool of 12 training and 2 development clips of 9 frames of 64x64."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    t, y, x = np.mgrid[:9, :64, :64].astype(np.float32)
    for split, count in (("training", 12), ("development", 2)):
        clips = []
        for _ in range(count):
            waves = np.zeros((9, 64, 64, 3), np.float32)
            for _ in range(6):
                fy, fx, ft = rng.normal(size=3) * (0.15, 0.15, 0.2)
                waves += np.sin(fy * y + fx * x + ft * t + rng.uniform(0, 6))[..., None] * rng.normal(size=3)
            clips.append(np.clip(127.5 + 30 * waves, 0, 255).astype(np.uint8))
        np.save(folder / f"{split}.npy", np.stack(clips))
    return folder
