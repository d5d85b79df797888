"""Deduplication: planted copies of real clips over eps, and a million synthetic embeddings in bounded memory.

    python benchmarks/bench_dedup.py planted VIDEO... [--every 17] [--seconds 2.5] [--cache FILE]
    python benchmarks/bench_dedup.py synthetic [--rows 1000000] [--dimensions 256] [--sample 4000]

`planted` cuts clips from the videos, makes of each a re-encode at crf 31, a rescale to 5/8, a crop of 10 % and a mirror
image, and prints recall and precision for each kind and eps. `synthetic` plants copies among clusters of very unequal
sizes, kept in a file, and prints time by step, peak memory, recall of the planted and the missed-pair rate.
"""

import argparse
import math
import pickle
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_curate.dedup import resolve
from cosmos_curate.dedup.clips import DedupInput
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.find import find_duplicates

KINDS = {
    "re-encode crf 31": ["-crf", "31"],
    "rescale 5/8": ["-crf", "18", "-vf", "scale=trunc(iw*5/16)*2:trunc(ih*5/16)*2"],
    "crop 10 %": ["-crf", "18", "-vf", "crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2"],
    "flip": ["-crf", "18", "-vf", "hflip"],
}
EPS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2)


def main() -> None:
    """Run the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    planted = parts.add_parser("planted")
    planted.add_argument("videos", nargs="+", type=Path)
    planted.add_argument("--every", type=float, default=17, help="seconds from one clip's start to the next one's")
    planted.add_argument("--seconds", type=float, default=2.5, help="length of a clip")
    planted.add_argument("--cache", type=Path, help="file to keep embeddings in, for another look")
    synthetic = parts.add_parser("synthetic")
    synthetic.add_argument("--rows", type=int, default=1_000_000)
    synthetic.add_argument("--dimensions", type=int, default=256)
    synthetic.add_argument("--sample", type=int, default=4000, help="rows compared with all others")
    args = parser.parse_args()
    if args.part == "planted":
        print_planted(args)
    else:
        print_synthetic(args.rows, args.dimensions, args.sample)


Described = list[tuple[str, str, np.ndarray, str]]
"""Clip, kind, embedding and hash of each file."""


def describe(args: argparse.Namespace) -> Described:
    """Cut, spoil, embed and hash the clips, or take them from the cache."""
    if args.cache and args.cache.exists():
        return pickle.loads(args.cache.read_bytes())
    import imageio_ffmpeg

    from cosmos_curate.content.stage import ContentConfig, content_stage
    from cosmos_curate.dedup.fingerprint import fingerprint_stage
    from cosmos_curate.media.reading import read_index, read_samplings
    from cosmos_curate.stage import Item

    program = imageio_ffmpeg.get_ffmpeg_exe()

    def encode(source: Path, target: Path, before: list[str], options: list[str]) -> Path:
        command = [program, "-v", "error", *before, "-i", str(source), "-an", "-c:v", "libx264", "-preset", "veryfast"]
        subprocess.run([*command, *options, "-y", str(target)], check=True)
        return target

    content, fingerprint = content_stage(ContentConfig()), fingerprint_stage()
    embed, hash_frames = content.open(), fingerprint.open()
    out: Described = []
    with tempfile.TemporaryDirectory() as folder:
        for video in args.videos:
            length = float(read_index(video).times_s[-1])
            for start in np.arange(0, max(length - args.seconds, 0.01), args.every):
                name = f"{video.stem} {start:.1f}"
                span = ["-ss", str(start), "-t", str(args.seconds)]
                original = encode(video, Path(folder) / "original.mp4", span, ["-crf", "18"])
                files = {"original": original}
                for kind, options in KINDS.items():
                    files[kind] = encode(original, Path(folder) / f"{len(files)}.mp4", [], options)
                for kind, path in files.items():
                    frames = read_samplings(path, [*content.samplings, *fingerprint.samplings])
                    item = Item(id=name, path=str(path))
                    embedding = np.asarray(embed(item, frames)["embedding"])
                    out.append((name, kind, embedding, str(hash_frames(item, frames)["phash"])))
    if args.cache:
        args.cache.write_bytes(pickle.dumps(out))
    return out


def print_planted(args: argparse.Namespace) -> None:
    """Print recall and precision for each kind: originals and their copies of that kind in one pool."""
    described = describe(args)
    count = sum(kind == "original" for _, kind, _, _ in described)
    print(
        f"{count} clips of {args.seconds} s. Recall: copies marked as such of their own original. Precision: of marked"
    )
    print(
        "clips, those marked as copies of the clip they were made from. By embedding; last row: defaults, and hash.\n"
    )
    print(f"{'eps':>6}", *(f"{kind:>20}" for kind in KINDS), f"{'distinct marked':>16}")
    for eps in (*EPS, None):
        config = DedupConfig(eps=eps or DedupConfig().eps, device="cpu")
        cells = []
        for kind in KINDS:
            pool = [each for each in described if each[1] in ("original", kind)]
            cells.append("{:9.3f} / {:8.3f}".format(*score(pool, config, hashes=eps is None)))
        originals = [each for each in described if each[1] == "original"]
        marked = sum(keeper is not None for keeper in keepers(originals, config, hashes=eps is None))
        print(f"{eps if eps else '+ hash':>6}", *(f"{cell:>20}" for cell in cells), f"{marked:>9} of {count}")


def keepers(pool: Described, config: DedupConfig, *, hashes: bool) -> list[str | None]:
    """Return what each clip of the pool is a copy of; originals have more pixels."""
    count = len(pool)
    clips = DedupInput(
        ids=[f"{name}|{kind}" for name, kind, _, _ in pool],
        embeddings=np.stack([embedding for _, _, embedding, _ in pool]),
        sha256=[None] * count,
        phash=[phash if hashes else None for _, _, _, phash in pool],
        duration_s=np.full(count, 2.5),
        pixels=np.array([2 if kind == "original" else 1 for _, kind, _, _ in pool]),
        bytes=np.full(count, 1),
        quality=np.full(count, np.nan, np.float32),
    )
    return find_duplicates(clips, config).dup_of


def score(pool: Described, config: DedupConfig, *, hashes: bool) -> tuple[float, float]:
    """Return recall and precision of the copies in a pool."""
    found = keepers(pool, config, hashes=hashes)
    right = sum(
        keeper is not None and keeper.split("|")[0] == name for keeper, (name, *_) in zip(found, pool, strict=True)
    )
    marked = sum(keeper is not None for keeper in found)
    return right / (len(pool) / 2), right / marked if marked else math.nan


def print_synthetic(rows: int, dimensions: int, sample: int) -> None:
    """Print what a run over synthetic embeddings took and found."""
    seconds: dict[str, float] = {}
    for name in (
        "equals",
        "hash_pairs",
        "choose_centroids",
        "assign",
        "split",
        "nearest_above",
        "choose",
        "missed_pairs",
    ):
        setattr(resolve, name, timed(getattr(resolve, name), name, seconds))
    parted, memberships = resolve.split, []

    def counted(*args: Any) -> Any:  # noqa: ANN401
        cells = parted(*args)
        memberships.append(sum(map(len, cells)) / rows)
        return cells

    resolve.split = counted
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        begin = time.perf_counter()
        original = write_rows(path, rows, dimensions)
        print(
            f"{rows} x {dimensions} float16, {path.stat().st_size / 1e6:.0f} MB, in {time.perf_counter() - begin:.0f} s"
        )
        clips = described_rows(np.load(path, mmap_mode="r"), original)
        config = replace(DedupConfig(), eps=0.08, sample=sample, device="cpu")
        before = peak_bytes()
        begin, cpu = time.perf_counter(), time.process_time()
        found = find_duplicates(clips, config)
        seconds["all"] = time.perf_counter() - begin
        print(f"processor time {time.process_time() - cpu:.0f} s")
    for name, value in seconds.items():
        print(f"{name:>18} {value:8.1f} s")
    copies = np.flatnonzero(original >= 0)
    right = sum(found.dup_of[row] == clips.ids[original[row]] for row in copies)
    marked = sum(keeper is not None for keeper in found.dup_of)
    print(f"peak memory {peak_bytes() / 1e6:.0f} MB, {before / 1e6:.0f} MB before; {found.cells} cells")
    print(f"largest cell {found.largest_cell}; clusters {len(found.centroids)}; cells a row {memberships[0]:.2f}")
    print(f"planted {len(copies)}, found {right}: recall {right / max(1, len(copies)):.5f}; marked {marked}")
    print(f"missed-pair rate {found.missed_rate:.5f}: {found.missed} of {found.pairs} pairs of {config.sample} rows")
    print("sweep", *(f"{point.eps}: {point.share:.4f}" for point in found.sweep))


def timed(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """Return the function, its time added up."""

    def run(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        begin = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[name] = seconds.get(name, 0) + time.perf_counter() - begin

    return run


def write_rows(path: Path, rows: int, dimensions: int) -> np.ndarray:
    """Write unit rows: topics of Zipf's sizes, scenes within them, clips within those; return what each is a copy of.

    Clips of one scene have a cosine of about 0.85, copies one of 0.93 to 0.999. A tenth of the rows, at the end, are
    copies; a third of those are further copies of an original that has one already.
    """
    rng = np.random.default_rng(0)
    topics = max(4, rows // 500)
    share = 1 / np.arange(1, topics + 1)
    topic_rows, scenes = unit(rng.normal(size=(topics, dimensions))), max(8, rows // 50)
    scene_topic = rng.choice(topics, scenes, p=share / share.sum())
    copies = rows // 10
    original = np.full(rows, -1)
    original[rows - copies :] = rng.integers(0, rows - copies, copies)
    again = rows - copies // 3
    original[again:] = original[rows - copies : rows - copies + rows - again]
    held = np.lib.format.open_memmap(path, "w+", np.float16, (rows, dimensions))
    scene_rows = unit(rng.normal(size=(scenes, dimensions)))
    for start in range(0, rows - copies, 50_000):
        count = min(50_000, rows - copies - start)
        scene = rng.integers(0, scenes, count)
        noise = unit(rng.normal(size=(count, dimensions)))
        held[start : start + count] = unit(
            0.5**0.5 * topic_rows[scene_topic[scene]] + 0.35**0.5 * scene_rows[scene] + 0.15**0.5 * noise
        )
    for start in range(rows - copies, rows, 50_000):
        source = held[original[start : start + 50_000]].astype(np.float32)
        length = np.sqrt(rng.uniform(0.002, 0.14, (len(source), 1)))
        held[start : start + 50_000] = unit(unit(source) + length * unit(rng.normal(size=source.shape)))
    held.flush()
    return original


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows at length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def described_rows(embeddings: np.ndarray, original: np.ndarray) -> DedupInput:
    """Return clips with hashes of their own; originals have more pixels than copies."""
    count = len(embeddings)
    rng = np.random.default_rng(1)
    words = rng.bytes(32 * count).hex()
    return DedupInput(
        ids=[f"{row:09d}" for row in range(count)],
        embeddings=embeddings,
        sha256=[f"{row:064x}" for row in range(count)],
        phash=[words[64 * row : 64 * row + 64] for row in range(count)],
        duration_s=rng.uniform(2, 60, count),
        pixels=np.where(original < 0, 2, 1),
        bytes=np.full(count, 1),
        quality=np.full(count, np.nan, np.float32),
    )


def peak_bytes() -> int:
    """Return the most memory that this process held so far, the file's mapped pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
