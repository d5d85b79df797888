"""What tests share: a small pool of clips as `clip_pool.build` would lay it out; networks and frames without chance."""

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn


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


@pytest.fixture
def line() -> ModuleType:
    """A small objective and its batches."""
    spec = importlib.util.spec_from_file_location("line_of_tests", Path(__file__).with_name("line.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def patterned() -> Callable[[nn.Module], nn.Module]:
    """Gives a network weights that depend on nothing but their names' order and their shapes."""

    @torch.no_grad()
    def fill(module: nn.Module) -> nn.Module:
        for place, (name, value) in enumerate(module.state_dict().items()):
            wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + place).reshape(value.shape)
            if value.dim() > 1:
                value.copy_(wave * math.sqrt(4 / value[0].numel()))
            elif name.endswith(("running_var", "weight")):
                value.copy_(1 + wave / 2)
            elif value.is_floating_point():
                value.copy_(wave / 4)
        return module.eval()

    return fill


@pytest.fixture
def waves() -> Callable[[int, int], Tensor]:
    """Gives one frame ``1 3 H W`` of the size asked for, the same each time."""

    def frame(height: int, width: int) -> Tensor:
        y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (height, width)), indexing="ij")
        return torch.stack([torch.sin(0.05 * y * c + 0.11 * x + 0.002 * x * y) for c in (1, 2, 3)])[None].float()

    return frame
