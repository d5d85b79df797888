"""Runs that are killed and run again give the same bytes and make nothing twice; so do both executors."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cosmos_curate.engine.executor import check_executor, open_executor
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.steps import StepResult
from cosmos_curate.engine.storage import Store
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Item, Resources

PROGRAM = Path(__file__).with_name("small_pipeline.py")
VIDEOS = 6


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "a b").mkdir(parents=True)
    for number in range(VIDEOS):
        (tmp_path / "in" / "a b" / f"é {number}.mp4").write_bytes(b"video" * number)
    (tmp_path / "temporary").mkdir()
    return tmp_path / "in"


@pytest.fixture
def start(folder, tmp_path):
    """Start the program on an output; its temporary files go to a folder of the test."""

    def run(out, executor="local"):
        arguments = [folder, tmp_path / out, tmp_path / f"{out}.log", executor]
        environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *map(str, arguments)],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    return run


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def runs(log):
    """What was known and what was made, for each run of a log."""
    all_runs = []
    for line in log.read_text().splitlines():
        kind, stage, item = line.split()
        if kind == "run":
            all_runs.append({"known": [], "made": []})
        else:
            all_runs[-1][kind].append((stage, item))
    return all_runs


def lines(log):
    return log.read_text().count("made") if log.exists() else 0


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_killed_runs_end_as_if_never_killed_and_make_nothing_twice(start, tmp_path, seed):
    chance, log = random.Random(seed), tmp_path / "killed.log"
    finish(start("whole"))
    made = runs(tmp_path / "whole.log")[0]["made"]
    kills = 0
    for _ in range(4):
        until = lines(log) + chance.randrange(1, len(made) // 4)
        process = start("killed")
        while lines(log) < until and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills == 4
    finish(start("killed"))
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert list((tmp_path / "temporary").iterdir()) == []
    again = runs(log)
    assert len(again) == 5
    for run in again:
        assert set(run["known"]) & set(run["made"]) == set(), "what was recorded was made again"
    assert {key for run in again for key in run["made"]} == set(made)
    assert sum(len(run["known"]) for run in again[1:]) > 0
    finish(start("killed"))
    assert runs(log)[-1]["made"] == []
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_the_pipeline_of_the_test_has_all_sorts_of_items(start, tmp_path):
    finish(start("whole"))
    rows = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    reasons = [row["quarantine"] for row in rows if "quarantine" in row]
    assert len(rows) == 7 * (VIDEOS - 1) + 1
    assert any(reason.startswith("quality: RuntimeError: poison") for reason in reasons)
    assert "motion: nothing moves" in reasons
    assert "cut: no frames" in reasons
    assert any("caption" in row and "embedding" not in row for row in rows)
    made = runs(tmp_path / "whole.log")[0]["made"]
    poison = max(made.count(one) for one in made)
    assert poison == 3


def test_a_second_run_on_one_output_is_refused(start, tmp_path):
    with locked(Store(tmp_path / "out")):
        _, errors = start("out").communicate(timeout=60)
        assert f"is in use by process {os.getpid()} on" in errors
        assert not (tmp_path / "out.log").exists()
    finish(start("out"))


@dataclass(frozen=True)
class Deadly:
    """A step that brings its process down on one item."""

    name: str = "deadly"
    resources: Resources = Resources()
    workers: int | None = 1

    def open(self):
        return self.run

    def run(self, item):
        if item.id == "02" and "quarantine" not in item.columns:
            os.kill(os.getpid(), signal.SIGKILL)
        return StepResult(items=(replace(item, columns={"done": True}),))


@pytest.mark.slow
def test_ray_gives_the_same_bytes_and_leaves_nothing(start, tmp_path):
    pytest.importorskip("ray")
    finish(start("whole"))
    finish(start("rayed", "ray"))
    assert tree(tmp_path / "rayed") == tree(tmp_path / "whole")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert sorted(runs(tmp_path / "rayed.log")[0]["made"]) == sorted(runs(tmp_path / "whole.log")[0]["made"])


@pytest.mark.slow
def test_ray_keeps_the_word_of_an_executor(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    executor = open_executor("ray", cpus=2)
    try:
        check_executor(executor)
        items = [Item(id=f"{number:02}", path="x") for number in range(4)]
        found = [item for result in executor.stream(items, [Deadly()]) for item in result.items]
        reasons = {item.id: item.columns.get("quarantine") for item in found}
        assert reasons == {"00": None, "01": None, "02": "deadly: it brought 2 workers down", "03": None}
        with pytest.raises(InputError, match="needs gpus 1 and there is 0"):
            executor.stream(items, [Deadly(resources=Resources(gpus=1))])
    finally:
        executor.close()
    assert not ray.is_initialized()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install cosmos-curate\[ray\]"):
        open_executor("ray")
    assert importlib.util.find_spec("cosmos_curate.engine.ray") is not None
