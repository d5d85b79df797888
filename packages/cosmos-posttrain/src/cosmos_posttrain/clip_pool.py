"""A pool of short training clips, memory-mapped: film crops, photographs under synthetic cameras and rendered scenes.

`build` writes a folder: `training.npy` and `development.npy` (uint8 [N, T, 128, 128, 3]) and `manifest.json` (each
clip's source). The clips lie in random order, so any contiguous piece is a fair sample. Development clips come from
other film shots, photographs and scenes than the training clips.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from cosmos_posttrain import film, synthetic_camera, worlds
from cosmos_tokenizer import InputError
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.progress import Progress

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
    frames: int = FRAMES,
    development: int = 192,
    mix: Mapping[str, float] = MIX,
    holdout: Sequence[str] = HOLDOUT,
) -> Path:
    """Build a pool of `clips` training clips and `development` more, of `frames` frames; about 49 kB a frame.

    Shows its progress on standard output. Files whose name begins with one of `holdout` are refused as a source. Raises
    InputError when the folder lacks a source that `mix` asks for, or `out_dir` exists already. The same footage,
    arguments and library versions give the same pool.
    """
    footage, out = Path(footage_dir), Path(out_dir)
    if out.exists():
        raise InputError(f"{out} exists already; remove it or name another folder")
    if frames < 1:
        raise InputError(f"frames is {frames}: a clip has at least 1")
    wanted = {"training": shares(clips, mix), "development": shares(development, mix)}
    if any(kinds["scenes"] for kinds in wanted.values()):
        worlds.check_renderer()
    beside = out.with_name(out.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        # The film is looked through once before its crops are read, which takes about as long.
        units = sum(2 * kinds["film"] + kinds["photographs"] + kinds["scenes"] for kinds in wanted.values())
        with Progress(units) as progress:
            sources = fill(beside, wanted, footage, seed, frames, tuple(holdout), progress)
        settings = {"seed": seed, "frames": frames, "size": SIZE, "mix": dict(mix), "holdout": list(holdout)}
        (beside / "manifest.json").write_text(to_json(settings | sources, indent=0) + "\n")
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def open_split(
    pool_dir: Path | str, split: str = "training", *, frames: int = 1, side: int = 1
) -> UInt8[Array, "N T H W 3"]:
    """The clips of one split ("training" or "development"), memory-mapped and read-only.

    Raises:
        InputError: the file holds no clips, or such as are shorter than `frames` or smaller than `side` pixels.
        OSError: the file cannot be read.
    """
    path = Path(pool_dir) / f"{split}.npy"
    again = "make the pool again with cosmos-posttrain pool"
    try:
        clips = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise InputError(f"{path} is damaged or no array of clips ({error}); {again}") from error
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
        raise InputError(f"{path} holds {clips.dtype} {clips.shape}, and clips are uint8 (N, T, H, W, 3); {again}")
    count, length, height, width, _ = clips.shape
    if count < 1 or length < frames or min(height, width) < side:
        raise InputError(
            f"{path} holds {count} clips of {length} frames of {height}x{width}, and at least one of "
            f"{frames} frames of {side}x{side} is needed; {again}"
        )
    return clips


def to_video(clips: UInt8[Array, "B T H W 3"]) -> Float[Tensor, "B 3 T H W"]:
    """Clips as floats in [-1, 1]."""
    return rearrange(torch.from_numpy(np.array(clips)), "b t h w c -> b c t h w").float() / 127.5 - 1


def shares(count: int, mix: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers of clips per kind that add up to `count`."""
    if set(mix) - set(MIX) or not sum(mix.values()) > 0:
        raise InputError(f"mix {dict(mix)} must weigh some of {list(MIX)}")
    ends = np.round(np.cumsum([mix.get(kind, 0.0) for kind in MIX]) / sum(mix.values()) * count).astype(int)
    return {kind: int(end - start) for kind, start, end in zip(MIX, [0, *ends[:-1]], ends, strict=True)}


def fill(
    folder: Path,
    wanted: Mapping[str, Mapping[str, int]],
    footage: Path,
    seed: int,
    frames: int,
    holdout: tuple[str, ...],
    progress: Progress,
) -> dict[str, list[str]]:
    """Write each split's array; returns each clip's source. `wanted` is split -> kind -> count."""
    counts = {split: sum(kinds.values()) for split, kinds in wanted.items()}
    order = np.random.default_rng([seed, 0])
    slots = {split: iter(order.permutation(count)) for split, count in counts.items()}
    sources = {split: [""] * count for split, count in counts.items()}
    arrays = {
        split: np.lib.format.open_memmap(
            folder / f"{split}.npy", mode="w+", dtype=np.uint8, shape=(count, frames, SIZE, SIZE, 3)
        )
        for split, count in counts.items()
    }
    for number, (kind, read) in enumerate(READERS.items(), start=1):
        share = {split: kinds[kind] for split, kinds in wanted.items()}
        if any(share.values()):
            progress.start(kind)
            for clip in read(footage, share, frames, np.random.default_rng([seed, number]), holdout, progress):
                slot = next(slots[clip.split])
                arrays[clip.split][slot], sources[clip.split][slot] = clip.frames, clip.source
                progress.advance(1.0)
    for split, rest in slots.items():
        assert next(rest, None) is None, split
        arrays[split].flush()
    return sources


def film_clips(
    footage: Path, wanted: Mapping[str, int], length: int, rng: Generator, holdout: tuple[str, ...], progress: Progress
) -> Iterator[Clip]:
    """Film crops of every split, as many as wanted."""
    path = footage / FILM
    if not path.exists() or FILM.startswith(holdout):
        raise InputError(
            f"no {path} to train on; fetch it with scripts/footage.py --only film, or use a mix without film"
        )
    crops = sum(wanted.values())
    glance = film.scan(path, seen=lambda share: progress.advance(crops * share))
    shots = film.find_shots(glance.grey)
    splits: dict[film.Crop, str] = {}
    for split, count in wanted.items():
        for crop in film.plan_crops(glance, part(shots, split), count, rng, frames=length, size=SIZE):
            splits[crop] = split
    for crop, frames in film.read_crops(path, list(splits), frames=length, size=SIZE):
        yield Clip(split=splits[crop], source=f"film: {FILM} frame {crop.start} step {crop.stride}", frames=frames)


def photograph_clips(
    footage: Path, wanted: Mapping[str, int], length: int, rng: Generator, holdout: tuple[str, ...], progress: Progress
) -> Iterator[Clip]:
    """Photographs of every split under synthetic cameras, as many as wanted."""
    for split, count in wanted.items():
        kept = photograph_paths(footage, split, holdout) if count else []
        pictures = [open_photograph(path, progress) for path in kept]
        for i in range(count):
            before = rng.integers(0, len(kept), size=int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15])))
            chosen = [i % len(kept), *before]
            frames = synthetic_camera.film_photographs([pictures[k] for k in chosen], rng, frames=length, size=SIZE)
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


def open_photograph(path: Path, progress: Progress) -> Image.Image:
    """RGB picture, shrunk where it is larger than the cameras need; hundreds take a while, which `progress` shows."""
    progress.advance(0.0)
    with Image.open(path) as image:
        image.draft("RGB", (LARGEST_PHOTOGRAPH, LARGEST_PHOTOGRAPH))
        picture = image.convert("RGB")
    picture.thumbnail((LARGEST_PHOTOGRAPH, LARGEST_PHOTOGRAPH), Image.Resampling.LANCZOS)
    return picture


def scene_clips(
    footage: Path, wanted: Mapping[str, int], length: int, rng: Generator, holdout: tuple[str, ...], progress: Progress
) -> Iterator[Clip]:
    """Rendered scenes of every split, dressed in that split's photographs."""
    for split, count in wanted.items():
        kept = photograph_paths(footage, split, holdout) if count else []
        pictures = [open_photograph(path, progress) for path in kept]
        for name, frames in worlds.clips(count, rng, pictures, frames=length, size=SIZE):
            yield Clip(split=split, source=f"scenes: {name}", frames=frames)


READERS = {"film": film_clips, "photographs": photograph_clips, "scenes": scene_clips}
