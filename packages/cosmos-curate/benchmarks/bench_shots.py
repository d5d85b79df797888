"""Frames a second of our TransNetV2 and PySceneDetect paths, decoding included, beside FFmpeg's scdet filter.

    python benchmarks/bench_shots.py CLIP [--seconds 60] [--start 0]

The clip's part is copied without re-encoding first. Each runs once, one after another, on one thread of its own; CPU
seconds are those of the process. Models are exported and loaded before the clock starts.
"""

import argparse
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

from cosmos_curate.media.reading import decode
from cosmos_curate.shots.stage import ShotConfig, open_detector

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def cpu_s() -> float:
    """Return CPU seconds of this process and of its children that ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def scdet(path: Path) -> int:
    """Return how many shots FFmpeg's scdet leaves at its own threshold."""
    command = [FFMPEG, "-hide_banner", "-threads", "1", "-filter_threads", "1", "-i", str(path)]
    said = subprocess.run(
        [*command, "-an", "-vf", "scdet", "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    return 1 + len(re.findall("lavfi.scd.time", said.stderr))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--start", type=float, default=0.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-shots-") as folder:
        part = Path(folder) / "part.mp4"
        times = ["-ss", str(args.start), "-t", str(args.seconds)]
        subprocess.run(
            [FFMPEG, "-v", "error", *times, "-i", str(args.clip), "-an", "-c", "copy", str(part)], check=True
        )
        frames = sum(1 for _ in decode(part))
        runs: dict[str, Callable[[], int]] = {"ffmpeg scdet": lambda: scdet(part)}
        runs["decoding alone"] = lambda: sum(1 for _ in decode(part)) and 0
        for name in ("content", "adaptive", "transnetv2"):
            detect = open_detector(ShotConfig(detector=name))
            runs[name] = lambda detect=detect: len(detect(lambda: decode(part)))
        base = None
        print(f"{frames} frames\n{'':16}{'shots':>6}{'frames/s':>10}{'CPU s':>8}{'x scdet':>9}")
        for name, run in runs.items():
            start, cpu = time.perf_counter(), cpu_s()
            shots = run()
            wall, cpu = time.perf_counter() - start, cpu_s() - cpu
            base = base or cpu
            print(f"{name:16}{shots or '':>6}{frames / wall:>10.0f}{cpu:>8.1f}{cpu / base:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
