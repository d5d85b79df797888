"""Camera-motion tags against known camera paths over real pictures: confusion table, recall and precision, and cost.

Each clip looks at one picture through a moving camera, is encoded as h264 and goes through the stage as any clip does.
On every other picture the camera turns inside a panorama (perspective, no parallax, 60 degrees wide); on the rest it
slides over a plane. Thresholds were chosen on the pictures at even places of the sorted folder; the table is of those
at odd places, and of frames of a film where one is given.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from cosmos_curate.media.reading import read_samplings
from cosmos_curate.motion.stage import MotionConfig, motion_stage
from cosmos_curate.schema import CAMERA_MOTIONS
from cosmos_curate.stage import Item

RATE, SECONDS, HEIGHT, WIDTH = 24, 2.0, 270, 480
FIELD_OF_VIEW = np.pi / 3
SPEEDS = {"slow": 0.02, "medium": 0.08, "fast": 0.4}
"""Root mean square over the picture, diagonals a second."""


@dataclass(frozen=True)
class KnownPath:
    """The picture's motion by frame: shift right and down in diagonals, log of the enlargement, angle clockwise."""

    right: np.ndarray
    down: np.ndarray
    growth: np.ndarray
    angle: np.ndarray


def known_path(motion: str, speed: float, seed: int) -> KnownPath:
    """Return the path of a motion of the camera at this speed."""
    times = np.arange(round(SECONDS * RATE)) / RATE
    still, going, turning = np.zeros_like(times), speed * times, speed * times * 12**0.5
    paths = {
        "static": (still, still, still, still),
        "pan left": (going, still, still, still),
        "pan right": (-going, still, still, still),
        "tilt up": (still, going, still, still),
        "tilt down": (still, -going, still, still),
        "zoom in": (still, still, turning, still),
        "zoom out": (still, still, -turning, still),
        "roll left": (still, still, still, turning),
        "roll right": (still, still, still, -turning),
    }
    if motion != "shake":
        return KnownPath(*paths[motion])
    rng = np.random.default_rng(seed)
    sways = []
    for _ in range(3):
        rates, phases = rng.uniform(2, 6, 4), rng.uniform(0, 2 * np.pi, 4)
        waves = np.sin(2 * np.pi * np.outer(times, rates) + phases) / (2 * np.pi * rates)
        sways.append(waves.sum(1) * speed / np.sqrt(2 * 2.25))
    return KnownPath(sways[0], sways[1], still, sways[2] * 0.5 * 12**0.5)


def photograph(picture: np.ndarray, path: KnownPath, index: int, *, turn: bool) -> np.ndarray:
    """Return what the camera sees at one frame of the path: `HEIGHT WIDTH 3`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    diagonal = float(np.hypot(HEIGHT, WIDTH))
    x, y = columns - (WIDTH - 1) / 2, rows - (HEIGHT - 1) / 2
    grow, angle = np.exp(-path.growth[index]), -path.angle[index]
    x, y = (
        grow * (np.cos(angle) * x - np.sin(angle) * y),
        grow * (np.sin(angle) * x + np.cos(angle) * y),
    )
    right, down = path.right[index] * diagonal, path.down[index] * diagonal
    scale = 0.55 * min(picture.shape[0] / HEIGHT, picture.shape[1] / WIDTH)
    if turn:
        focal = WIDTH / 2 / np.tan(FIELD_OF_VIEW / 2)
        yaw, pitch = -right / focal, -down / focal
        ahead = np.full_like(x, focal)
        y, ahead = np.cos(pitch) * y + np.sin(pitch) * ahead, np.cos(pitch) * ahead - np.sin(pitch) * y
        x, ahead = np.cos(yaw) * x + np.sin(yaw) * ahead, np.cos(yaw) * ahead - np.sin(yaw) * x
        x, y = focal * np.arctan2(x, ahead), focal * np.arctan2(y, np.hypot(x, ahead))
    else:
        x, y = x - right, y - down
    x = (x * scale + picture.shape[1] / 2).astype(np.float32)
    y = (y * scale + picture.shape[0] / 2).astype(np.float32)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def load_picture(path: Path) -> np.ndarray | None:
    """Return the picture, brought down so that the camera sees it about pixel for pixel; None if it is no picture."""
    picture = cv2.imread(str(path))
    if picture is None:
        return None
    scale = min(1.0, max(HEIGHT / 0.55 / picture.shape[0], WIDTH / 0.55 / picture.shape[1]))
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def encode(path: Path, frames: Iterator[np.ndarray], codec: str = "libx264") -> None:
    """Write frames (BGR) as h264."""
    with av.open(str(path), "w") as container:
        options = {"crf": "23", "preset": "veryfast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = base = Fraction(1, 90000)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts, frame.time_base = index * 90000 // RATE, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def tag(path: Path, config: MotionConfig) -> str:
    """Return the camera motion that the stage writes for a clip."""
    process = motion_stage(config).open()
    frames = read_samplings(path, [config.sampling])
    return str(process(Item(id=path.name, path=str(path)), frames)["camera_motion"])


def confusion(pictures: list[np.ndarray], config: MotionConfig) -> dict[tuple[str, str, str], int]:
    """Return how often a motion at a speed got a tag."""
    counts: dict[tuple[str, str, str], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        for number, picture in enumerate(pictures):
            for motion in CAMERA_MOTIONS:
                for name, speed in SPEEDS.items() if motion != "static" else [("", 0.0)]:
                    path = known_path(motion, speed, 1000 + number)
                    turn = number % 2 == 0
                    encode(clip, (photograph(picture, path, i, turn=turn) for i in range(len(path.right))))
                    key = (motion, name, tag(clip, config))
                    counts[key] = counts.get(key, 0) + 1
    return counts


def print_table(counts: dict[tuple[str, str, str], int]) -> None:
    """Print the confusion table, rows the truth, and recall and precision of each class."""
    total = {(m, t): 0 for m in CAMERA_MOTIONS for t in CAMERA_MOTIONS}
    for (motion, _, found), number in counts.items():
        total[motion, found] += number
    print("truth \\ tag".ljust(12), *(t.replace(" ", "\u00a0").rjust(10) for t in CAMERA_MOTIONS), "recall precision")
    for motion in CAMERA_MOTIONS:
        row = [total[motion, t] for t in CAMERA_MOTIONS]
        found = sum(total[m, motion] for m in CAMERA_MOTIONS)
        right = total[motion, motion]
        print(
            motion.ljust(12),
            *(str(n).rjust(10) for n in row),
            f"{right / max(sum(row), 1):6.3f} {right / max(found, 1):9.3f}",
        )
    for name in ("", *SPEEDS):
        cells = [(m == t, n) for (m, s, t), n in counts.items() if s == name]
        print(f"{name or 'static':8s} {sum(n for right, n in cells if right)} of {sum(n for _, n in cells)} right")


def film_frames(path: Path, count: int) -> list[np.ndarray]:
    """Return frames of a film, evenly spread over its first two minutes, as pictures."""
    pictures, due = [], 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        length = min(120.0, float((stream.duration or 0) * (stream.time_base or 0)) or 10.0)
        for frame in container.decode(stream):
            if frame.time >= due:
                if frame.time > 0:
                    pictures.append(frame.to_ndarray(format="bgr24"))
                due += length / (count + 1)
            if len(pictures) == count:
                break
    return pictures


def print_cost(pictures: list[np.ndarray], config: MotionConfig) -> None:
    """Print CPU seconds for a second of 720p, by part, on one clip of each kind of motion."""
    from cosmos_curate.motion import flow, path, similarity, vectors

    global HEIGHT, WIDTH
    HEIGHT, WIDTH = 720, 1280
    spent = dict.fromkeys(("decode and scale", "start", "flow", "fit", "light", "vectors", "all but decode"), 0.0)

    def timed(name: str, function):  # noqa: ANN001, ANN202
        def call(*args):  # noqa: ANN002, ANN202
            begun = time.process_time()
            try:
                return function(*args)
            finally:
                spent[name] += time.process_time() - begun

        return call

    path.choose_start, path.make_view = timed("start", flow.choose_start), timed("light", flow.make_view)
    path.estimate_flow = timed("flow", flow.estimate_flow)
    path.fit_similarity = timed("fit", similarity.fit_similarity)
    from cosmos_curate.motion import stage

    stage.measure_vectors = timed("vectors", vectors.measure_vectors)
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        for motion in ("static", "pan left", "zoom in", "shake"):
            known = known_path(motion, SPEEDS["medium"], 0)
            encode(clip, (photograph(pictures[0], known, i, turn=True) for i in range(len(known.right))))
            begun = time.process_time()
            frames = read_samplings(clip, [config.sampling])
            decoded = time.process_time()
            motion_stage(config).open()(Item(id="clip", path=str(clip)), frames)
            spent["decode and scale"] += decoded - begun
            spent["all but decode"] += time.process_time() - decoded
            seconds += SECONDS
    for name, value in spent.items():
        print(f"{name:18s} {value / seconds:.3f} CPU s per second of 720p")


def main() -> None:
    """Print the table of held-out photographs, of a film's frames, and the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path, help="folder of pictures")
    parser.add_argument("--film", type=Path, help="video whose frames are pictures too")
    parser.add_argument("--count", type=int, default=8, help="pictures of either kind")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    config = MotionConfig()
    held_out = sorted(p for p in args.photographs.iterdir() if p.is_file())[1::2]
    chosen = held_out[:: max(1, len(held_out) // args.count)][: args.count]
    pictures = [p for p in map(load_picture, chosen) if p is not None]
    print("photographs:", *(p.name for p in chosen))
    print_table(confusion(pictures, config))
    if args.film:
        frames = film_frames(args.film, args.count)
        print(f"{len(frames)} frames of {args.film.name}")
        print_table(confusion(frames, config))
    print_cost(pictures, config)


if __name__ == "__main__":
    main()
