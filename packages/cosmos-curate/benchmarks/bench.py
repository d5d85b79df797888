"""The whole pipeline on real footage, everything on: seconds a second of video, memory, and each stage's share.

    python benchmarks/bench.py --clip VIDEO... [--seconds 60] [--executor both] [--quick]

Every run is a process of its own, on as many cores as it may use: first a run from nothing, then the same again, of
which the ledger has all, then `select`; then Ray on the same footage, its start apart. Models are exported before the
clock starts. CPU seconds are those of the process and of all it starts, by looking at each five times a second, so that
the last fifth of a second of some may be missing; memory is the most that all of them were seen to hold together, what
they share counted once. Needs Linux.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from cosmos_curate.media.reading import open_video, read_index

CURATE = [sys.executable, "-m", "cosmos_curate.cli"]
QUICK_S = 4.0
TICK_S = 0.2
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process and all that it started cost: seconds, and bytes at the worst moment."""

    wall_s: float
    cpu_s: float
    peak: int
    said: str


class Tree:
    """Watches a process and its descendants, orphans of theirs included as long as one of them was seen before."""

    def __init__(self, root: int) -> None:
        self.known, self.cpu, self.peak = {root}, {}, 0

    @property
    def cpu_s(self) -> float:
        """Seconds of all that were seen."""
        return sum(self.cpu.values())

    def look(self) -> None:
        """Take a sample."""
        parents: dict[int, int] = {}
        spent: dict[int, tuple[str, float, int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    words = (folder / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                number = int(folder.name)
                parents[number] = int(words[1])
                spent[number] = words[19], (int(words[11]) + int(words[12])) / TICKS, int(words[21]) * PAGE
        while found := {number for number, parent in parents.items() if parent in self.known} - self.known:
            self.known |= found
        held = 0
        for number in self.known & spent.keys():
            began, cpu_s, resident = spent[number]
            # A process that is only now being made may still be its parent, memory and all.
            if (number, began) in self.cpu:
                held += _proportional(number) or resident
            self.cpu[number, began] = cpu_s
        self.peak = max(self.peak, held)


def _proportional(number: int) -> int | None:
    """Return a process's bytes, of those that n share an n-th; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def watched(command: Sequence[str | Path]) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: it failed; its last words are shown.
    """
    began, ended = time.perf_counter(), threading.Event()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=errors, text=True)
        tree = Tree(process.pid)

        def look() -> None:
            while not ended.wait(TICK_S):
                tree.look()

        watcher = threading.Thread(target=look)
        watcher.start()
        said, _ = process.communicate()
        wall_s = time.perf_counter() - began
        ended.set()
        watcher.join()
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{errors.read()[-2000:]}")
    return Cost(wall_s=wall_s, cpu_s=tree.cpu_s, peak=tree.peak, said=said)


def run_here(executor: str, folder: str, out: str) -> None:
    """Run the pipeline in this process and print how long starting Ray took, and the run."""
    from cosmos_curate.config import RunConfig
    from cosmos_curate.engine.executor import open_executor
    from cosmos_curate.pipeline import run

    began = time.perf_counter()
    # A Ray that is there is used by the run, and outlives it.
    held = open_executor(executor) if executor == "ray" else None
    started = time.perf_counter()
    run(RunConfig(folder=folder, out=out, executor=executor), say=lambda line: None)
    ended = time.perf_counter()
    if held is not None:
        held.close()
    print(json.dumps({"start_s": started - began, "run_s": ended - started}))


def footage(clips: Sequence[Path], folder: Path, seconds: float | None) -> float:
    """Put the videos, or the first seconds of each, copied frame by frame, into a folder; return their length."""
    ffmpeg, total = imageio_ffmpeg.get_ffmpeg_exe(), 0.0
    for number, clip in enumerate(clips):
        target = folder / f"{number}-{clip.name}"
        if seconds is None:
            shutil.copyfile(clip, target)
        else:
            cut = ["-t", str(seconds), "-i", clip, "-map", "0:v:0", "-c", "copy", target]
            subprocess.run([ffmpeg, "-v", "error", *map(str, cut)], check=True)
        index = read_index(target)
        length = index.end_s - index.times_s[0]
        container, stream = open_video(target)
        with container:
            print(f"{clip.name}: {length:.1f} s of {stream.codec_context.width}x{stream.codec_context.height}")
        total += length
    return total


def print_runs(costs: dict[str, Cost], video_s: float) -> None:
    """Print a row a run."""
    print(f"\n{load()}\n")
    print("| run | wall s | s a second of video | video-hours/h | CPU s a second of video | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    for name, cost in costs.items():
        rates = f"{cost.wall_s / video_s:.2f} | {video_s / cost.wall_s:.2f} | {cost.cpu_s / video_s:.2f}"
        print(f"| {name} | {cost.wall_s:.1f} | {rates} | {cost.peak / 1e6:.0f} |")


def print_stages(report: dict[str, Any], whole: Cost, video_s: float) -> None:
    """Print the share of each stage in the CPU seconds of a run."""
    rows = [(name, stage["items"], stage["cpu_s"]) for name, stage in report["stages"].items()]
    rest = whole.cpu_s - sum(cpu_s for *_, cpu_s in rows)
    print("\n| stage | items | CPU s | a second of video | share |\n|---|---|---|---|---|")
    for name, items, cpu_s in [*rows, ("start, shards, libraries' threads", "", rest)]:
        print(f"| {name} | {items} | {cpu_s:.2f} | {cpu_s / video_s:.3f} | {cpu_s / whole.cpu_s:.1%} |")


def stage_cpu_s(report: dict[str, Any]) -> float:
    """Return the CPU seconds of all stages."""
    return sum(stage["cpu_s"] for stage in report["stages"].values())


def print_ratio(costs: dict[str, Cost], local: dict[str, Any], ray: dict[str, Any]) -> None:
    """Print what Ray costs as a multiple of the local executor."""
    own, other = (json.loads(costs[executor].said.splitlines()[-1]) for executor in ("local", "ray"))
    ratio = other["run_s"] / own["run_s"]
    print(f"\nRay over local: {ratio:.2f} of the seconds, after a start of {other['start_s']:.1f} s")
    stages = stage_cpu_s(ray) / stage_cpu_s(local)
    print(f"CPU seconds: {stages:.2f} for stages, {costs['ray'].cpu_s / costs['local'].cpu_s:.2f} for all")


def load() -> str:
    """Return the machine's cores and how busy it is with everything."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, load {' '.join(f'{one:.1f}' for one in os.getloadavg())}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, nargs="+", help="videos")
    parser.add_argument("--seconds", type=float, help="of each video to take; all of it by default")
    parser.add_argument("--executor", choices=("both", "local"), default="both", help="local alone leaves out Ray")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:g} s of each video, to see that all of it runs")
    parser.add_argument("--run-here", nargs=3, metavar=("EXECUTOR", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run_here:
        return run_here(*args.run_here)
    if not args.clip:
        parser.error("name videos: --clip VIDEO...")
    watched([*CURATE, "models", "export"])
    print(load())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, local, ray = (Path(name, part) for part in ("videos", "local", "ray"))
        folder.mkdir()
        video_s = footage(args.clip, folder, QUICK_S if args.quick else args.seconds)
        here = [sys.executable, __file__, "--run-here"]
        costs = {"local": watched([*here, "local", folder, local])}
        report = json.loads((local / "report.json").read_text("utf-8"))
        print(f"{report['clips']} clips of {3600 * report['hours']:.1f} s, {report['kept']} kept")
        costs["again, all reused"] = watched([*here, "local", folder, local])
        costs["select"] = watched([*CURATE, "select", local])
        if args.executor == "local":
            print_runs(costs, video_s)
            return print_stages(report, costs["local"], video_s)
        costs["ray"] = watched([*here, "ray", folder, ray])
        print_runs(costs, video_s)
        print_stages(report, costs["local"], video_s)
        print_ratio(costs, report, json.loads((ray / "report.json").read_text("utf-8")))
        same = (local / "manifest.parquet").read_bytes() == (ray / "manifest.parquet").read_bytes()
        print(f"The manifests are {'equal' if same else 'NOT EQUAL'}.")


if __name__ == "__main__":
    main()
