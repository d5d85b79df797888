"""A whole guided sample equals that of diffusers' own pipeline, its `__call__` and not lines replayed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cosmos_diffusion import PRESETS, WorldModel
from cosmos_diffusion.samplers import euler
from cosmos_diffusion.sigmas import karras

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_a_sample_equals_diffusers_pipeline(randomised: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="diffusers' Cosmos pipelines need transformers")
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import diffusers_pipeline as peer

    world = randomised(WorldModel(PRESETS["toy-video"]))
    known, noise = 0.5 * torch.randn(1, 16, 2, 8, 12), torch.randn(1, 16, 4, 8, 12)
    text, negative = torch.randn(2, 1, 16, 32)
    text[:, 9:], negative[:, 4:] = 0, 0
    pipeline = peer.pipeline_of(peer.transformer_of(world), known, 4)
    theirs = peer.sample(pipeline, noise, text, negative, known=2, steps=7, guidance=7.0)
    given = world.given(known, 4, augment=0)
    denoise = world.denoiser(text, negative, guidance=7, fps=peer.FPS, given=given)
    ours = euler(denoise, 80 * noise, karras(6, zero=False))
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)
