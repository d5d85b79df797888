"""A folder of clips to shards of tokens in webdataset's layout, in parallel processes, and on from where a run ended.

The result depends on the clips, the model and the options alone: clips are dealt to shards beforehand in the order of
their keys, and every process computes with one thread. `shard_reader` reads them.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.images import IMAGE_SUFFIXES
from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.progress import Progress
from cosmos_tokenizer.shard_plan import (
    MANIFEST,
    Clip,
    Shard,
    clips_in,
    figures_of,
    into_shards,
    is_whole,
    new_manifest,
    read_manifest,
    resumed,
    write_figures,
    write_manifest,
)
from cosmos_tokenizer.shard_workers import one_thread, write_in_processes
from cosmos_tokenizer.shard_writer import ClipDone, ClipEncoder, Event, LatentType, Recipe, open_encoder, write_shard
from cosmos_tokenizer.sources import Source
from cosmos_tokenizer.video import VIDEO_SUFFIXES

PER_SHARD = 100
"""Clips of a shard at most, by default: a shard is what one process does at a time and what a broken run does anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenShards:
    """What stands in a folder of shards: their manifest, how many they are and how many `kept` from an earlier run."""

    manifest: Path
    model: str
    shards: int
    kept: int
    samples: int
    skipped: tuple[dict[str, str], ...]


def write_shards(
    folder: Path | str,
    output: Path | str,
    source: Source,
    *,
    preset: str | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    latents: LatentType = "float16",
    exact: bool = False,
    tile: int | None = None,
    per_shard: int = PER_SHARD,
    workers: int = 1,
) -> WrittenShards:
    """Encode every video and picture of a folder, and of the folders in it, into shards in the folder `output`.

    A clip that cannot be read is told, skipped, and named with the reason in `manifest.json`. What a run that broke
    off has finished is kept by the next one. A clip's tokens are held in memory until it is written.

    Args:
        folder, output: where the clips are and where the shards go, `shard-000000.tar` and so on.
        source, preset, device: as `load` takes them.
        dtype: of the weights; None for as they are stored.
        latents: type of the stored latents. float16 halves them and rounds by 1/2048 of each at most, far below what
            the decoder tells apart; bfloat16 would round eight times as much, and NumPy has none.
        exact, tile: let temporal attention look back on all of a long clip; side of tiles that large frames are cut in.
        per_shard: clips of a shard at most.
        workers: processes, each with a model of its own and one thread.

    Raises:
        InputError: no folder, no clips, or none that can be read; or `output` was begun with another model, other
            options or other clips.
        OSError: a shard cannot be written.
    """
    folder, output = Path(folder), Path(output)
    for name, value in (("per-shard", per_shard), ("workers", workers)):
        if value < 1:
            raise InputError(f"--{name} is {value}; give at least 1")
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; shards are made of a folder of clips")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file, and shards go into a folder")
    clips = clips_in(folder, VIDEO_SUFFIXES | IMAGE_SUFFIXES)
    manifest = read_manifest(output)
    name = ",".join(map(str, source)) if isinstance(source, tuple) else str(source)
    recipe = Recipe(
        source=source,
        name=readable(name if manifest is None else manifest["model"]),
        preset=preset,
        device=device,
        dtype=dtype,
        latents=latents,
        exact=exact,
        tile=tile,
    )
    with one_thread():
        encoder = open_encoder(recipe)
        head = _head(encoder, per_shard)
        if manifest is None:
            shards = into_shards(_measured(clips, encoder), per_shard)
            manifest = new_manifest(shards, head)
            write_manifest(output, manifest)
        else:
            shards = resumed(output, manifest, head | {"model": readable(name)}, clips)
        return _complete(output, manifest, shards, encoder, workers)


def _complete(
    output: Path, manifest: dict[str, Any], shards: Sequence[Shard], encoder: ClipEncoder, workers: int
) -> WrittenShards:
    """Make the shards that are missing, and bring the manifest up to date."""
    rows, whole = {row["name"]: row for row in manifest["shards"]}, is_whole(manifest)
    figures = {shard.name: found for shard in shards if (found := figures_of(output, rows[shard.name])) is not None}
    missing = [shard for shard in shards if shard.name not in figures]
    kept, bounded = len(figures), 0
    if missing:
        for left in output.glob(".*.partial"):
            left.unlink()
        with Progress(sum(len(shard.clips) for shard in missing)) as progress:
            _announce(progress, kept, len(missing), workers, encoder)
            for event in _events(output, missing, encoder, workers):
                if isinstance(event, ClipDone):
                    bounded += event.bounded
                    progress.start(str(event.clip.path))
                    if event.reason is not None:
                        progress.say(f"{event.clip.path}: skipped, {event.reason}")
                    progress.advance(1.0)
                else:
                    made, figures[made] = event
                    write_figures(output, made, figures[made])
            if bounded:
                progress.say(
                    f"{bounded} clips are so long that temporal attention looked back on a part of them only (see "
                    "`window` in their records); --exact lets it look back on all, in another folder"
                )
    manifest["shards"] = [row | figures[row["name"]] for row in manifest["shards"]]
    written = WrittenShards(
        manifest=output / MANIFEST,
        model=manifest["model"],
        shards=len(shards),
        kept=kept,
        samples=sum(found["samples"] for found in figures.values()),
        skipped=tuple(skipped for row in manifest["shards"] for skipped in row["skipped"]),
    )
    if not written.samples:
        first = written.skipped[0]
        raise InputError(f"{first['source']}: {first['reason']}; and no other clip could be encoded either")
    if missing or not whole:
        write_manifest(output, manifest)
    return written


def _events(output: Path, shards: Sequence[Shard], encoder: ClipEncoder, workers: int) -> Iterator[Event]:
    if workers > 1 and len(shards) > 1:
        yield from write_in_processes(output, shards, encoder.recipe, workers)
    else:
        for shard in shards:
            yield from write_shard(output, shard, encoder)


def _head(encoder: ClipEncoder, per_shard: int) -> dict[str, Any]:
    """Which model and which options make the samples; where they run does not count."""
    model, recipe = encoder.model, encoder.recipe
    return {
        "model": recipe.name,
        "fingerprint": dict(encoder.fingerprint),
        "kind": model.config.kind,
        "temporal": model.geometry.temporal,
        "spatial": model.geometry.spatial,
        "options": {
            "dtype": str(model.dtype).removeprefix("torch."),
            "latents": recipe.latents if model.config.kind == "continuous" else None,
            "exact": recipe.exact,
            "tile": recipe.tile,
            "per-shard": per_shard,
        },
    }


def _measured(clips: Sequence[Clip], encoder: ClipEncoder) -> Iterator[tuple[Clip, int]]:
    with Progress(len(clips)) as progress:
        for clip in clips:
            progress.start(f"measuring {clip.path}")
            yield clip, encoder.nbytes(clip)
            progress.advance(1.0)


def _announce(progress: Progress, kept: int, missing: int, workers: int, encoder: ClipEncoder) -> None:
    if kept:
        progress.say(f"{kept} of {kept + missing} shards are finished already")
    cores = os.cpu_count() or 1
    if workers > missing:
        progress.say(
            f"{missing} shards keep {missing} of {workers} workers busy; a smaller --per-shard makes more shards"
        )
    elif workers == 1 and cores > 1 and encoder.model.device.type == "cpu":
        progress.say(f"one worker computes on 1 of {cores} cores; --workers {cores} takes them all")
