"""Do the quality numbers rank a picture above its distorted copy? Share of pairs in the right order, and CPU time.

python bench_quality.py --pair pristine.mp4 distorted.mp4 photograph.jpg ... film.mp4 ...
"""

import argparse
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from cosmos_curate.media.frames import Frames
from cosmos_curate.quality.stage import QualityConfig, quality_stage
from cosmos_curate.stage import Item

NUMBERS = {"quality": 1, "brisque": -1, "blur": -1, "blockiness": -1}
"""Columns, and the sign that makes higher better."""

Change = Callable[[np.ndarray], np.ndarray]


def each(change: Change) -> Change:
    """Return the change of a clip that changes each picture."""
    return lambda clip: np.stack([change(picture) for picture in clip])


def coded(codec: str, **options: object) -> Change:
    """Return the change that encodes and decodes; each picture stands for three frames, of which the second is kept."""

    def change(clip: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream(codec, rate=24, options={k: str(v) for k, v in options.items()})
            stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "yuv420p"
            for picture in clip.repeat(3, 0):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        buffer.seek(0)
        with av.open(buffer) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][1::3])

    return change


def resized(picture: np.ndarray, divisor: int) -> np.ndarray:
    """Return the picture made smaller and brought back."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // divisor, height // divisor), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def noisy(clip: np.ndarray, deviation: float) -> np.ndarray:
    """Return the clip with white noise."""
    noise = np.random.default_rng(0).normal(0, deviation, clip.shape)
    return np.clip(clip + noise, 0, 255).round().astype(np.uint8)


DISTORTIONS: dict[str, Change] = {
    "h264 crf 40": coded("libx264", crf=40, preset="veryfast"),
    "h264 crf 51": coded("libx264", crf=51, preset="veryfast"),
    "mpeg4 q 10": coded("mpeg4", qmin=10, qmax=10),
    "mpeg4 q 31": coded("mpeg4", qmin=31, qmax=31),
    "blur 1 px": each(lambda picture: cv2.GaussianBlur(picture, (0, 0), 1)),
    "blur 2 px": each(lambda picture: cv2.GaussianBlur(picture, (0, 0), 2)),
    "blur 4 px": each(lambda picture: cv2.GaussianBlur(picture, (0, 0), 4)),
    "down and up 2": each(lambda picture: resized(picture, 2)),
    "down and up 4": each(lambda picture: resized(picture, 4)),
    "noise 8": lambda clip: noisy(clip, 8),
    "noise 20": lambda clip: noisy(clip, 20),
}


def clips(path: Path, number: int) -> list[np.ndarray]:
    """Return `number` clips of a film, two frames each half a second apart, or a photograph at 720 lines at most."""
    if path.suffix not in {".mp4", ".mkv", ".webm"}:
        picture = cv2.imread(str(path))[..., ::-1]
        scale = min(1, 720 / min(picture.shape[:2]))
        size = [int(side * scale) // 2 * 2 for side in picture.shape[1::-1]]
        return [np.ascontiguousarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))[None]]
    found: list[np.ndarray] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for index in range(number):
            container.seek(int((index + 0.5) * (container.duration or 0) / number))
            near = itertools.islice(container.decode(stream), 13)
            frames = [frame.to_ndarray(format="rgb24") for frame in near]
            found.append(np.stack(frames[::12]))
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs=2, type=Path, help="a clip and its distorted copy")
    parser.add_argument("--number", type=int, default=12, help="clips of each film")
    parser.add_argument("paths", nargs="*", type=Path, help="photographs and films")
    arguments = parser.parse_args()
    config = QualityConfig()
    process = quality_stage(config).open()

    def measure(clip: np.ndarray) -> dict[str, float]:
        frames = Frames(pixels=clip, times_s=np.arange(len(clip)) / 2)
        found = process(Item(id="", path=""), {config.sampling: frames})
        return {name: sign * float(str(found[name])) for name, sign in NUMBERS.items()}

    if arguments.pair:
        one, other = (measure(np.concatenate(clips(path, 4))) for path in arguments.pair)
        for name in NUMBERS:
            verdict = "right" if one[name] > other[name] else "wrong"
            print(f"{name:12} pristine {abs(one[name]):7.3f}  distorted {abs(other[name]):7.3f}  {verdict}")
    pristine = [clip for path in arguments.paths for clip in clips(path, arguments.number)]
    if not pristine:
        return
    began, pictures = time.process_time(), sum(len(clip) for clip in pristine)
    base = [measure(clip) for clip in pristine]
    spent = time.process_time() - began
    print(f"{len(pristine)} clips; {1000 * spent / pictures:.0f} ms CPU a frame")
    print(f"{'':14}" + "".join(f"{name:>12}" for name in NUMBERS))
    totals = dict.fromkeys(NUMBERS, 0.0)
    for label, distort in DISTORTIONS.items():
        worse = [measure(distort(clip)) for clip in pristine]
        shares = {n: float(np.mean([a[n] > b[n] for a, b in zip(base, worse, strict=True)])) for n in NUMBERS}
        print(f"{label:14}" + "".join(f"{shares[name]:12.2f}" for name in NUMBERS), flush=True)
        totals = {name: totals[name] + shares[name] / len(DISTORTIONS) for name in NUMBERS}
    print(f"{'all':14}" + "".join(f"{totals[name]:12.2f}" for name in NUMBERS))


if __name__ == "__main__":
    main()
