"""How cost grows with the number of clips: 10, 100 and 1,000 videos of 2 s and 160x90, all different.

    python benchmarks/growth.py [--clips 10 100 1000] [--detector content]

Each number is a run from nothing, then the same again, of which the ledger has all, then `select`, each in a process of
its own. The detector is PySceneDetect's content by default, and no guard bands are cut off, so that a video is a clip.
`deciding` is what `select` takes less its start with no clip at all: reading the manifest, rules, duplicates, captions
from the ledger, shards, manifest. The last column but one is bytes of the ledger a clip.
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
    """Write a video of a texture that drifts, of its own for each seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    height, width = SIDE
    texture = cv2.resize(coarse, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    grain = random.integers(0, 24, texture.shape, dtype=np.uint8)
    texture = cv2.add(texture, grain)
    right, down = random.uniform(0.3, 1.5, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FRAMES):
            x, y = round(right * number), round(down * number)
            view = np.ascontiguousarray(texture[y : y + height, x : x + width])
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
    print("| clips | run | wall s | CPU s | CPU ms a clip | peak memory, MB | ledger, bytes a clip |")
    print("|---|---|---|---|---|---|---|")
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
                print(
                    f"| {count} | {what} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {1000 * cost.cpu_s / count:.1f} "
                    f"| {cost.peak / 1e6:.0f} | {ledger_bytes(out) / count:.0f} |",
                    flush=True,
                )
    print(f"\n{load()}")


if __name__ == "__main__":
    main()
