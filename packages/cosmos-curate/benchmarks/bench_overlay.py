"""Is text laid over the picture told from text in the scene? Precision, recall, and CPU time a second of video.

python bench_overlay.py photograph.jpg ... film.mp4 ...

A photograph is filmed by a camera that moves, or stands still; a film moves by itself. Text is painted on the
photograph before it is filmed (text of the scene), or on the finished frames (laid over).
"""

import argparse
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.reading import read_samplings
from cosmos_curate.overlay.stage import OverlayConfig, overlay_stage
from cosmos_curate.stage import Item

SIZE = (720, 1280)
SAMPLES, RATE = 8, 2.0
WORDS = (
    "market",
    "street",
    "open daily",
    "coffee",
    "museum",
    "exit",
    "station",
    "north",
    "garden",
    "library",
    "bakery",
)
PLACES = {
    "subtitle": ((0.25, 0.86, 0.75, 0.95), 1.2),
    "title": ((0.2, 0.4, 0.8, 0.6), 2.4),
    "corner logo": ((0.84, 0.04, 0.97, 0.12), 0.9),
}
"""Where text goes, as shares of the picture: left, top, right, bottom; and how large."""


def write(picture: np.ndarray, words: str, left: float, top: float, size: float, plate: bool) -> None:
    """Paint words, outlined or upon a plate, with their top left at a share of the picture."""
    origin = int(left * picture.shape[1]), int(top * picture.shape[0] + 30 * size)
    (width, height), base = cv2.getTextSize(words, cv2.FONT_HERSHEY_DUPLEX, size, 2)
    if plate:
        corner = origin[0] + width + 12, origin[1] + base + 8
        cv2.rectangle(picture, (origin[0] - 12, origin[1] - height - 8), corner, (30, 70, 110), -1)
    else:
        cv2.putText(picture, words, origin, cv2.FONT_HERSHEY_DUPLEX, size, (0, 0, 0), 8, cv2.LINE_AA)
    cv2.putText(picture, words, origin, cv2.FONT_HERSHEY_DUPLEX, size, (255, 255, 255), 2, cv2.LINE_AA)


def filmed(picture: np.ndarray, rng: np.random.Generator, speed: float) -> np.ndarray:
    """Return samples by a camera that pans, zooms and rolls; speed is the share of the width a second."""
    height, width = SIZE
    angle = rng.uniform(0, 2 * np.pi)
    step = speed * width / RATE * np.array([np.cos(angle), np.sin(angle)])
    zoom, roll = 1 + speed * rng.uniform(-0.15, 0.15), speed * rng.uniform(-10, 10)
    samples = []
    for index in range(SAMPLES):
        at = index - (SAMPLES - 1) / 2
        turn = cv2.getRotationMatrix2D((picture.shape[1] / 2, picture.shape[0] / 2), roll * at, zoom**at)
        turn[:, 2] += np.array([width, height]) / 2 - np.array(picture.shape[1::-1]) / 2 + step * at
        sample = cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        noise = rng.normal(0, 2, sample.shape)
        sample = np.clip(sample + noise, 0, 255).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
        samples.append(cv2.imdecode(cv2.imencode(".jpg", sample, quality)[1], cv2.IMREAD_COLOR))
    return np.stack(samples)


def photograph_cases(path: Path) -> list[tuple[str, bool, np.ndarray]]:
    """Return name, whether text was laid over, and samples of each case of a photograph."""
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    picture = cv2.imread(str(path))[..., ::-1]
    scale = 1.25 * max(SIZE[0] / picture.shape[0], SIZE[1] / picture.shape[1])
    picture = np.ascontiguousarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))

    def words() -> str:
        return " ".join(rng.choice(WORDS, 3)).upper()

    cases: list[tuple[str, bool, np.ndarray]] = []
    signs = picture.copy()
    for top in (0.3, 0.62):
        write(signs, words(), rng.uniform(0.25, 0.45), top, rng.uniform(1.2, 2), bool(rng.integers(2)))
    for name, speed in (("still", 0.0), ("slow", 0.01), ("moving", 0.06)):
        cases.append((f"no text, {name}", False, filmed(picture, rng, speed)))
        cases.append((f"scene text, {name}", False, filmed(signs, rng, speed)))
        place = list(PLACES)[int(rng.integers(3))]
        (left, top, _, _), size = PLACES[place]
        over = filmed(picture, rng, speed)
        said = words() if place != "corner logo" else "NEWS 24"
        for sample in over:
            write(sample, said, left, top, size, plate=False)
        cases.append((f"laid over, {name}", True, over))
    both = filmed(signs, rng, 0.06)
    for sample in both:
        write(sample, words() if sample is both[0] else said, *PLACES["subtitle"][0][:2], PLACES["subtitle"][1], False)
    cases.append(("both, moving", True, both))
    return cases


def film_cases(path: Path, clips: int) -> list[tuple[str, bool, np.ndarray]]:
    """Return cases of a film: as it is, and with text laid over each piece of 4 seconds."""
    (frames,) = read_samplings(path, [Sampling(rate=RATE, short_side=720)]).values()
    starts = range(0, len(frames.pixels) - SAMPLES + 1, max(1, (len(frames.pixels) - SAMPLES) // clips))
    cases: list[tuple[str, bool, np.ndarray]] = []
    for start in list(starts)[:clips]:
        piece = frames.pixels[start : start + SAMPLES]
        cases.append((f"no text, {path.stem}", False, piece))
        for place, ((left, top, _, _), size) in PLACES.items():
            over = piece.copy()
            for sample in over:
                write(
                    sample,
                    "THE OLD MILL",
                    left - 0.1 * (place == "corner logo"),
                    top,
                    size * piece.shape[1] / 720,
                    False,
                )
            cases.append((f"{place}, {path.stem}", True, over))
    return cases


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=3, help="pieces of each film")
    parser.add_argument(
        "--threshold", type=float, default=0.3, help="text_overlay from which a clip counts as laid over"
    )
    parser.add_argument("paths", nargs="+", type=Path, help="photographs and films")
    arguments = parser.parse_args()
    config = OverlayConfig(rate=RATE, most=SAMPLES)
    process = overlay_stage(config).open()
    scores: dict[str, list[float]] = {}
    truth: dict[str, bool] = {}
    spent: dict[bool, list[float]] = {False: [], True: []}
    for path in arguments.paths:
        is_film = path.suffix in {".mp4", ".mkv", ".webm"}
        for name, laid, pixels in film_cases(path, arguments.clips) if is_film else photograph_cases(path):
            frames = Frames(pixels=pixels, times_s=np.arange(len(pixels)) / RATE)
            began = time.process_time()
            found = process(Item(id="", path=""), {config.sampling: frames})
            spent[bool(found["text"])].append((time.process_time() - began) * RATE / SAMPLES)
            scores.setdefault(name, []).append(float(str(found["text_overlay"])))
            truth[name] = laid
    print(f"{'case':26} clips   min  median   max  called laid over (from {arguments.threshold})")
    for name, values in sorted(scores.items()):
        called = np.mean(np.array(values) >= arguments.threshold)
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        print(f"{name:26} {len(values):5} {low:5.2f}  {middle:5.2f}  {high:5.2f}  {called:.2f}")
    for label, kept in (("moving", lambda name: "still" not in name), ("all", lambda name: True)):
        pairs = [(truth[n], v >= arguments.threshold) for n, values in scores.items() if kept(n) for v in values]
        hits = sum(laid and called for laid, called in pairs)
        precision = hits / max(sum(called for _, called in pairs), 1)
        print(f"{label}: precision {precision:.3f}, recall {hits / max(sum(laid for laid, _ in pairs), 1):.3f}")
    for text, values in spent.items():
        if values:
            print(f"CPU s a second of video, {'with' if text else 'without'} text: {np.mean(values):.2f}")


if __name__ == "__main__":
    main()
