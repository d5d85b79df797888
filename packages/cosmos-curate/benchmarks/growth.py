"""How cost grows with the number of clips: 10, 100 and 1,000 videos of 2 s and 160x90, all different.

    python benchmarks/growth.py [--clips 10 100 1000] [--detector content]

Each number is a run from nothing, then the same again, of which the ledger has all, then `select`, which is reading the
manifest, rules, duplicates, captions from the ledger, shards and manifest; each in a process of its own, so that their
start is in each line. The detector is PySceneDetect's content by default, and no guard bands are cut off: a video is a
clip.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from bench import CURATE, load, watched

SIDE, FRAMES, RATE = (90, 160), 50, 25


def make_video(path: Path, seed: int) -> None:
    """Write a video of discs on a slope of colour that pass by, of their own for each seed."""
    random = np.random.default_rng(seed)
    height, width = SIDE
    corners = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    scene = cv2.resize(corners, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    for _ in range(random.integers(4, 60)):
        centre = int(random.integers(2 * width)), int(random.integers(2 * height))
        cv2.circle(scene, centre, int(random.integers(3, 40)), random.integers(0, 256, 3).tolist(), -1)
    scene = cv2.add(scene, random.integers(0, 12, scene.shape, dtype=np.uint8))
    right, down = random.uniform(0.3, 1.5, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FRAMES):
            x, y = round(right * number), round(down * number)
            view = np.ascontiguousarray(scene[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
        container.mux(stream.encode(None))


def ledger_bytes(out: Path) -> int:
    """Return the size of all of an output's ledger."""
    return sum(path.stat().st_size for path in (out / "ledger").rglob("*.json"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--detector", choices=("content", "transnetv2", "stride"), default="content")
    args = parser.parse_args()
    watched([*CURATE, "models", "export"])
    print(f"detector {args.detector}, {load()}\n")
    print("| clips | run | kept | wall s | CPU s | CPU ms a clip | peak memory, MB | ledger, bytes a clip |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        for count in args.clips:
            folder, out = Path(name, f"videos-{count}"), Path(name, f"out-{count}")
            folder.mkdir()
            for number in range(count):
                make_video(folder / f"{number:05}.mp4", number)
            settings = ["--detector", args.detector, "--set", "cut.guard_s=0", "--json"]
            run = [*CURATE, "run", folder, out, *settings]
            for what, command in (("first", run), ("again", run), ("select", [*CURATE, "select", out, "--json"])):
                cost = watched(command)
                report = json.loads(cost.said.splitlines()[-1])
                if report["clips"] != count or report["quarantined"]:
                    sys.exit(f"{report['clips']} clips of {count} videos, {report['quarantined']} put aside")
                numbers = f"{cost.wall_s:.1f} | {cost.cpu_s:.1f} | {1000 * cost.cpu_s / count:.1f}"
                sizes = f"{cost.peak / 1e6:.0f} | {ledger_bytes(out) / count:.0f}"
                print(f"| {count} | {what} | {report['kept']} | {numbers} | {sizes} |", flush=True)
    print(f"\n{load()}")


if __name__ == "__main__":
    main()
