"""``torchrun ... -m cosmos_diffusion.cli generate`` makes the clip of one process, and writes it once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_diffusion.cli import main
from cosmos_tokenizer.video import Video, read_video, write_video

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the two processes: threads round otherwise, and an untrained network guided by 30 makes much of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PLANS = {
    "guidance, sharded": (
        ["--prompt", "it falls", "--guidance", "30"],
        ["--shard"],
        {"guidance": 2, "context": 1, "sharded": True},
    ),
    "frames in a ring": ([], ["--context", "ring"], {"guidance": 1, "context": 2, "method": "ring"}),
}


@pytest.mark.parametrize("plan", PLANS)
def test_two_processes_make_the_clip_of_one(plan: str, world_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world_file.parent)
    grey = np.linspace(60, 200, 12 * 32 * 48 * 3).reshape(12, 32, 48, 3).astype(np.uint8)
    write_video("clip.mp4", Video(frames=grey, rate=Fraction(24)))
    text, options, planned = PLANS[plan]
    common = ["generate", "--model", "world.safetensors", "--video", "clip.mp4", "--seed", "3", *text]
    assert main([*common, "--out", "one.mp4"]) == 0
    assert main([*common, "--out", "other.mp4", "--guidance" if text else "--augment", "0.5"]) == 0
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cosmos_diffusion.cli"]
    done = subprocess.run(
        [sys.executable, *many, *common, *options, "--out", "two.mp4", "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])["files"][0]
    assert done.stdout.count("two.mp4:") == 1
    assert said["processes"] | planned == said["processes"]
    one, two, other = (read_video(f"{name}.mp4").frames.astype(int) for name in ("one", "two", "other"))
    assert one.shape == two.shape
    assert np.abs(one - two).mean() < 0.05 * np.abs(one - other).mean()
    assert {path.suffix for path in Path().glob(".*.partial")} == set()
