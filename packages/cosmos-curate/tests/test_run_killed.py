"""Runs killed at random points, and on Ray: the same bytes as a run that nothing disturbed, and nothing done twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cosmos_curate.cli import main

pytestmark = pytest.mark.slow

OPTIONS = ["--detector", "content", "--set", "cut.guard_s=0.1", "--set", "transcode.clips_per_call=2"]
STAGES = ("probe", "shots", "transcode", "motion", "quality", "content", "overlay", "fingerprint", "caption")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video, picture) -> Path:
    """Three videos of two or three shots each, and a broken one."""
    root = tmp_path_factory.mktemp("footage")
    for number in range(3):
        shots = []
        for shot in range(2 + number % 2):
            large = picture(200, 400, 10 * number + shot)
            shots.append(np.stack([large[10:90, 2 * n : 2 * n + 128] for n in range(54)]))
        video(root / f"{number}.mp4", np.concatenate(shots))
    (root / "broken.mp4").write_bytes(b"no video" * 100)
    return root


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    found = [out / "manifest.parquet", out / "embeddings.parquet", *sorted((out / "shards").rglob("*"))]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found if path.is_file()}


def results(out: Path) -> set[tuple[str, str]]:
    """Return every result that the ledger holds: the item's file and the result's key."""
    found = set()
    for path in (out / "ledger").rglob("*.json"):
        _, _, body = path.read_bytes().partition(b"\n")
        found |= {(path.name, key) for key in json.loads(body)}
    return found


def test_killed_at_random_points_it_ends_as_if_never_killed(folder, expected, tmp_path):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "cosmos_curate.cli", "run", str(folder), str(out), *OPTIONS]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    rng = random.Random(0)
    killed = 0
    for _ in range(5):
        enough = len(list(out.rglob("ledger/*/*.json"))) + rng.randint(1, 2)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.rglob("ledger/*/*.json"))) < enough:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    before = results(out)
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert files(out) == expected
    report = json.loads(done.stdout.splitlines()[-1])
    made = sum(report["stages"][name]["items"] - report["stages"][name]["reused"] for name in STAGES)
    made += report["stages"]["aesthetic"]["items"] - report["stages"]["aesthetic"]["reused"]
    assert made == len(results(out)) - len(before)
    assert not list(temporary.iterdir())
    assert not list(out.rglob("*.partial"))
    assert not (out / "work").exists()


def test_on_ray_it_is_the_same_to_the_byte(folder, expected, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cosmos_curate.cli", "run", str(folder), str(out), *OPTIONS, "--executor", "ray"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert files(out) == expected
