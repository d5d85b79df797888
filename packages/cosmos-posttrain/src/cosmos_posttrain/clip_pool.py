"""A pool of short training clips, memory-mapped: film crops, photographs under synthetic cameras and rendered scenes.

`build` writes a folder: `training.npy` and `development.npy` (uint8 [N, 17, 128, 128, 3]) and `manifest.json` (each
clip's source). The clips lie in random order, so any contiguous piece is a fair sample. Development clips come from
other film shots, photographs and scenes than the training clips.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image

from cosmos_posttrain import film, synthetic_camera, worlds
from cosmos_tokenizer import InputError

FRAMES, SIZE = 17, 128
MIX: Mapping[str, float] = {"film": 0.45, "photographs": 0.40, "scenes": 0.15}
HOLDOUT = ("bikes", "carphone")
FILM = "big_buck_bunny.mp4"
LARGEST_PHOTOGRAPH = 2048

Array = np.ndarray
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A finished clip and where it came from, for example `photographs: skimage-coffee.png`."""

    split: str
    source: str
    frames: UInt8[Array, "T H W 3"]


def build(
    footage_dir: Path | str,
    out_dir: Path | str,
    *,
    clips: int,
    seed: int,
    development: int = 192,
    mix: Mapping[str, float] = MIX,
    holdout: Sequence[str] = HOLDOUT,
) -> Path:
    """Build a pool of `clips` training clips and `development` more; about 0.84 MB each.

    Files whose name begins with one of `holdout` are refused as a source. Raises InputError when the folder lacks a
    source that `mix` asks for, or `out_dir` exists already. The same footage, arguments and library versions give the
    same pool.
    """
    footage, out = Path(footage_dir), Path(out_dir)
    if out.exists():
        raise InputError(f"{out} exists already; remove it or name another folder")
    wanted = {"training": shares(clips, mix), "development": shares(development, mix)}
    if any(kinds["scenes"] for kinds in wanted.values()):
        worlds.check_renderer()
    beside = out.with_name(out.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        sources = fill(beside, wanted, footage, seed, tuple(holdout))
        settings = {"seed": seed, "frames": FRAMES, "size": SIZE, "mix": dict(mix), "holdout": list(holdout)}
        (beside / "manifest.json").write_text(json.dumps(settings | sources, indent=0) + "\n")
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def open_split(pool_dir: Path | str, split: str = "training") -> UInt8[Array, "N T H W 3"]:
    """The clips of one split ("training" or "development"), memory-mapped and read-only."""
    return np.load(Path(pool_dir) / f"{split}.npy", mmap_mode="r")


def shares(count: int, mix: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers of clips per kind that add up to `count`."""
    if set(mix) - set(MIX) or not sum(mix.values()) > 0:
        raise InputError(f"mix {dict(mix)} must weigh some of {list(MIX)}")
    ends = np.round(np.cumsum([mix.get(kind, 0.0) for kind in MIX]) / sum(mix.values()) * count).astype(int)
    return {kind: int(end - start) for kind, start, end in zip(MIX, [0, *ends[:-1]], ends, strict=True)}


def fill(
    folder: Path, wanted: Mapping[str, Mapping[str, int]], footage: Path, seed: int, holdout: tuple[str, ...]
) -> dict[str, list[str]]:
    """Write each split's array; returns each clip's source. `wanted` is split -> kind -> count."""
    counts = {split: sum(kinds.values()) for split, kinds in wanted.items()}
    order = np.random.default_rng([seed, 0])
    slots = {split: iter(order.permutation(count)) for split, count in counts.items()}
    sources = {split: [""] * count for split, count in counts.items()}
    arrays = {
        split: np.lib.format.open_memmap(
            folder / f"{split}.npy", mode="w+", dtype=np.uint8, shape=(count, FRAMES, SIZE, SIZE, 3)
        )
        for split, count in counts.items()
    }
    for number, (kind, read) in enumerate(READERS.items(), start=1):
        share = {split: kinds[kind] for split, kinds in wanted.items()}
        if any(share.values()):
            for clip in read(footage, share, np.random.default_rng([seed, number]), holdout):
                slot = next(slots[clip.split])
                arrays[clip.split][slot], sources[clip.split][slot] = clip.frames, clip.source
    for split, rest in slots.items():
        assert next(rest, None) is None, split
        arrays[split].flush()
    return sources


def film_clips(footage: Path, wanted: Mapping[str, int], rng: Generator, holdout: tuple[str, ...]) -> Iterator[Clip]:
    """Film crops of every split, as many as wanted."""
    path = footage / FILM
    if not path.exists() or FILM.startswith(holdout):
        raise InputError(
            f"no {path} to train on; fetch it with scripts/footage.py --only film, or use a mix without film"
        )
    glance = film.scan(path)
    shots = film.find_shots(glance.grey)
    splits: dict[film.Crop, str] = {}
    for split, count in wanted.items():
        for crop in film.plan_crops(glance, part(shots, split), count, rng, frames=FRAMES, size=SIZE):
            splits[crop] = split
    for crop, frames in film.read_crops(path, list(splits), frames=FRAMES, size=SIZE):
        yield Clip(split=splits[crop], source=f"film: {FILM} frame {crop.start} step {crop.stride}", frames=frames)


def photograph_clips(
    footage: Path, wanted: Mapping[str, int], rng: Generator, holdout: tuple[str, ...]
) -> Iterator[Clip]:
    """Photographs of every split under synthetic cameras, as many as wanted."""
    for split, count in wanted.items():
        kept = photograph_paths(footage, split, holdout) if count else []
        pictures = [open_photograph(path) for path in kept]
        for i in range(count):
            before = rng.integers(0, len(kept), size=int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15])))
            chosen = [i % len(kept), *before]
            frames = synthetic_camera.film_photographs([pictures[k] for k in chosen], rng, frames=FRAMES, size=SIZE)
            yield Clip(split=split, source="photographs: " + " + ".join(kept[k].name for k in chosen), frames=frames)


def photograph_paths(footage: Path, split: str, holdout: tuple[str, ...]) -> list[Path]:
    """Files of one split's photographs, held-out names left out."""
    paths = sorted(path for path in (footage / "photographs").glob("*") if not path.name.startswith(holdout))
    if not part(paths, split):
        raise InputError(f"{len(paths)} photographs in {footage} are too few; fetch them with scripts/footage.py")
    return part(paths, split)


def part(things: Sequence[T], split: str) -> list[T]:
    """Every eighth shot or photograph is the development split's alone."""
    return [thing for i, thing in enumerate(things) if (i % 8 == 3) == (split == "development")]


def open_photograph(path: Path) -> Image.Image:
    """RGB picture, shrunk where it is larger than the cameras need."""
    with Image.open(path) as image:
        image.draft("RGB", (LARGEST_PHOTOGRAPH, LARGEST_PHOTOGRAPH))
        picture = image.convert("RGB")
    picture.thumbnail((LARGEST_PHOTOGRAPH, LARGEST_PHOTOGRAPH), Image.Resampling.LANCZOS)
    return picture


def scene_clips(footage: Path, wanted: Mapping[str, int], rng: Generator, holdout: tuple[str, ...]) -> Iterator[Clip]:
    """Rendered scenes of every split, dressed in that split's photographs."""
    for split, count in wanted.items():
        pictures = [open_photograph(path) for path in photograph_paths(footage, split, holdout)] if count else []
        for name, frames in worlds.clips(count, rng, pictures, frames=FRAMES, size=SIZE):
            yield Clip(split=split, source=f"scenes: {name}", frames=frames)


READERS = {"film": film_clips, "photographs": photograph_clips, "scenes": scene_clips}
