"""A real clip to tokens, back and on to what happens next; videos to training clips; one page. Run by `nox -s demo`.

    python scripts/demo.py --out out/demo

Each shipped tokenizer takes the clip to a token file and back. Then the world model is given the first frames of the
clip, and of a rendered scene where MuJoCo can render here, and what it generates stands beside what really follows.
At last four videos become training clips, as demo_curation.py has it.

The folder appears whole or not at all: it is built beside the old one, which it then replaces. Exit codes: 0 done,
2 something is missing or cannot be used (one line on standard error), 1 anything else.
"""

import argparse
import contextlib
import html
import json
import os
import shlex
import shutil
import sys
import time
import tomllib
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import demo_curation
import footage
import numpy as np
import torch

from cosmos_curate.cli import main as cosmos_curate
from cosmos_diffusion import WorldModel, load
from cosmos_diffusion.cli import main as cosmos_diffusion
from cosmos_diffusion.pipelines.clips import resized
from cosmos_posttrain.cli import main as cosmos_posttrain
from cosmos_posttrain.evaluate.baselines import copy_last_frame
from cosmos_posttrain.worlds import check_renderer
from cosmos_tokenizer import InputError
from cosmos_tokenizer.cli import main as cosmos_tokenizer
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.metrics import finite_mean, psnr_per_frame
from cosmos_tokenizer.tokens import load_tokens
from cosmos_tokenizer.video import Video, read_video, write_video

CLIP = "bikes.mp4"
FRAMES = 73
"""1 + 4 x 18 and 1 + 8 x 9, which the tokenizers take without padding: 2.9 s, to spare slow machines."""

MODELS = ("nano-cv4x8x8", "nano-dv4x8x8", "nano-cv8x8x8", "nano-dv8x16x16")
FOOTAGE = Path(__file__).resolve().parents[1] / "data" / "footage"
PAGE = Path(__file__).with_name("demo.html")
SECTION = Path(__file__).with_name("demo_clip.html")
"""What the page shows of each clip that goes on."""
INPUT, TOKENS, OUTPUT = "input.mp4", "tokens.safetensors", "reconstruction.mp4"

WORLD_MODEL = "nano-video2world"
GIVEN = 9
"""Frames that the world model begins with."""
SHOT = 25
"""Frames of the clip's first shot that are shown, 1 + 8 x 3; it is cut at frame 30."""
SCENE, SEED = "free-fall", 9001
"""The rendered scene: the first of a seed that no training clip has."""
TRUTH, BEGINNING, NEXT = "truth.mp4", "given.mp4", "next.mp4"
COLUMNS = 6
"""Frames behind the given ones that a strip of pictures has."""
COMMANDS = {
    "cosmos-curate": cosmos_curate,
    "cosmos-tokenizer": cosmos_tokenizer,
    "cosmos-diffusion": cosmos_diffusion,
    "cosmos-posttrain": cosmos_posttrain,
}
VIDEO = '<figure><video src="{file}" muted playsinline></video><figcaption>{name}</figcaption></figure>'
SHEET = (
    '<figure><figcaption>{name}</figcaption><a href="{name}/worst.png">'
    '<img src="{name}/worst.png" alt="Input, reconstruction and difference of the worst frames of {name}"></a></figure>'
)
STRIP = '<div class="strip"><span>{name}</span><img src="{file}" alt="Frames of: {name}"></div>'
FIGURES = {  # what a row of the page's table is called, and how its figure is printed
    "psnr_frame": ("PSNR, mean of the frames, dB", ".2f"),
    "psnr_video": ("PSNR, whole clip, dB", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "compression": ("Compression, against 24 bits a pixel", ".1f"),
    "encode_ms": ("Encoding, ms a frame", ".1f"),
    "decode_ms": ("Decoding, ms a frame", ".1f"),
    "memory_mb": ("Peak memory, MB", ".0f"),
    "token_file_mb": ("Token file, MB", ".3f"),
    "reconstruction_mb": ("Reconstruction as mp4, MB", ".3f"),
}


class DemoError(Exception):
    """The demo cannot go on; the line is empty where the reason is printed already."""

    def __init__(self, line: str, code: int = 2) -> None:
        super().__init__(line)
        self.code = code


def find_clip(folder: Path) -> Path:
    """The clip in `folder`, fetched where it is absent."""
    clip = folder / CLIP
    if not clip.exists():
        try:
            problems = footage.fetch(folder, ("bikes",))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            problems = [str(error)]
        if not clip.exists():
            why = "; ".join(problems)
            raise DemoError(f"footage is missing: {clip} is not there and cannot be fetched ({why}); put it there")
    return clip


def run(command: str, *arguments: str) -> str:
    """Run one command as a person would and return it as typed."""
    typed = shlex.join([command, *arguments])
    print(f"$ {typed}", flush=True)
    if code := COMMANDS[command](arguments):
        raise DemoError("", code)
    return typed


def megabytes(path: Path) -> float:
    """The file's size in 10^6 bytes."""
    return path.stat().st_size / 1e6


def short(model: str) -> str:
    """What a model is called on the page."""
    return Path(model).stem if Path(model).is_file() else model


def show(model: str) -> tuple[str, dict[str, Any]]:
    """Take the input through one model by way of a token file; returns the model's folder and what was measured."""
    name = short(model)
    folder = Path(name)
    tokens, output = str(folder / TOKENS), str(folder / OUTPUT)
    commands = [
        run("cosmos-tokenizer", "encode", INPUT, tokens, "--model", model),
        run("cosmos-tokenizer", "decode", tokens, output, "--model", model),
        run("cosmos-tokenizer", "evaluate", INPUT, "--model", model, "--out", name),
    ]
    result = json.loads((folder / "metrics.json").read_text("utf-8"))
    (folder / "metrics.json").unlink()  # all of it goes into the one beside the page
    sizes = {"token_file_mb": megabytes(folder / TOKENS), "reconstruction_mb": megabytes(folder / OUTPUT)}
    figures = {"device": result["device"], "dtype": result["dtype"], **result["files"][0], **sizes}
    return name, {**figures, "commands": commands, "definitions": result["definitions"]}


class Clip(NamedTuple):
    """A clip whose first frames the world model is given, and how it was made."""

    title: str
    truth: Path
    prompt: str | None
    commands: list[str]


def first_shot(frames: np.ndarray, rate: Fraction | None, world: WorldModel) -> Clip:
    """The footage's first shot, brought to the height that the world model was trained at."""
    height, width = world.defaults.height, 16 * round(world.defaults.height * frames.shape[2] / frames.shape[1] / 16)
    small = resized(to_clip(frames[: min(SHOT, world.defaults.frames)]), height, width)
    truth = Path("footage", TRUTH)
    write_video(truth, Video(frames=to_frames(small), rate=rate))
    return Clip("Real footage", truth, None, [])


def rendered_scene(world: WorldModel) -> Clip:
    """A scene rendered at the world model's size and length."""
    size, frames = min(world.defaults.height, world.defaults.width), world.defaults.frames
    asked = {"count": 1, "seed": SEED, "frames": frames, "size": size, "fps": world.defaults.fps}
    options = [word for name, value in asked.items() for word in (f"--{name}", f"{value:g}")]
    commands = [run("cosmos-posttrain", "worlds", SCENE, *options, "--out", "rendered")]
    truth = Path("rendered", f"{SCENE}-0001.mp4")
    caption = truth.with_suffix(".txt").read_text("utf-8").strip()
    prompt = None if world.text_encoder is None else caption
    return Clip("Rendered scene", truth, prompt, commands)


def go_on(model: str, clip: Clip) -> dict[str, Any]:
    """Give the first frames of a clip to the world model, and measure how near it comes to the others."""
    folder, video = clip.truth.parent, read_video(clip.truth)
    write_video(folder / BEGINNING, Video(frames=video.frames[:GIVEN], rate=video.rate))
    count, height, width, _ = video.frames.shape
    options = ["--frames", str(count), "--height", str(height), "--width", str(width)]
    options += [] if clip.prompt is None else ["--prompt", clip.prompt]
    given, tokens, output, after = (str(folder / name) for name in (BEGINNING, TOKENS, OUTPUT, NEXT))
    generate = run("cosmos-diffusion", "generate", "--model", model, "--video", given, "--out", after, *options)
    made = json.loads(Path(after).with_suffix(".json").read_text("utf-8"))
    encode = run("cosmos-tokenizer", "encode", str(clip.truth), tokens, "--model", made["tokenizer"])
    decode = run("cosmos-tokenizer", "decode", tokens, output, "--model", made["tokenizer"])
    known = made["condition_frames"]
    shown = {"truth": video.frames, "round_trip": read_video(output).frames, "generation": read_video(after).frames}
    columns = [0, known - 1, *np.linspace(known, count - 1, COLUMNS).round().astype(int).tolist()]
    for name, frames in shown.items():
        write_image(folder / f"{name}.png", np.concatenate(list(frames[columns]), axis=1))
    still = copy_last_frame(read_video(given).frames[:known], frames=count)
    return {
        "title": clip.title,
        "truth": clip.truth.as_posix(),
        "rate": float(video.rate or 0),
        "token_shape": list(load_tokens(tokens).values.shape),
        "columns": columns,
        "psnr": {
            name: _decibels(video.frames[known:], frames[known:])
            for name, frames in {**shown, "copy_last_frame": still}.items()
            if name != "truth"
        },
        "made": made,
        "commands": [*clip.commands, encode, decode, generate],
    }


def _decibels(truth: np.ndarray, other: np.ndarray) -> float:
    """PSNR, mean of the frames."""
    return finite_mean(psnr_per_frame(torch.from_numpy(truth), torch.from_numpy(other)).tolist())


def make(clip: Path, models: Sequence[str], world_model: str) -> None:
    """Fill the current folder."""
    world = load(world_model)  # before the minutes of the rest
    video = read_video(clip)
    frames = video.frames[:FRAMES]
    write_video(INPUT, Video(frames=frames, rate=video.rate))
    listing = tomllib.loads(footage.LIST.read_text("utf-8"))
    source = next(file for file in listing["files"] if file["name"] == CLIP)
    count, height, width, _ = frames.shape
    shown = dict(map(show, models))
    next_ = {"footage": go_on(world_model, first_shot(frames, video.rate, world))}
    left_out = None
    try:
        check_renderer()
    except InputError as error:
        left_out = " ".join(f"the rendered scene is left out: {error}".split())
        print(left_out, flush=True)
    else:
        next_["rendered"] = go_on(world_model, rendered_scene(world))
    metrics = {
        "input": {
            "frames": count,
            "height": height,
            "width": width,
            "rate": float(video.rate or 0),
            "raw_mb": frames.nbytes / 1e6,
            "mp4_mb": megabytes(Path(INPUT)),
            "source": f"{source['member']} in the Python package {source['package']}",
            "licence": source["licence"],
        },
        "threads": torch.get_num_threads(),
        "models": shown,
        "world_model": short(world_model),
        "parameters": sum(value.numel() for value in world.parameters()),
        "next": next_,
        "left_out": left_out,
        "curation": demo_curation.curate(clip.parent, run),
    }
    Path("metrics.json").write_text(to_json(metrics, indent=2) + "\n", "utf-8")
    Path("index.html").write_text(page(json.loads(Path("metrics.json").read_text("utf-8"))), "utf-8")


def page(metrics: dict[str, Any]) -> str:
    """The page as text, made from nothing but what metrics.json holds."""
    models: dict[str, dict[str, Any]] = metrics["models"]
    going_on: dict[str, dict[str, Any]] = metrics["next"]
    names = [html.escape(name) for name in models]
    files = [f"{name}/{file}" for name in names for file in (TOKENS, OUTPUT)]
    videos = [("input", INPUT), *((name, f"{name}/{OUTPUT}") for name in names)]
    rows = [_row("tokens", "Tokens", ["×".join(map(str, m["token_shape"])) for m in models.values()])]
    for key, (title, form) in FIGURES.items():
        rows.append(_row(key, title, ["–" if m[key] is None else format(m[key], form) for m in models.values()]))
    rows += [_row(key, key.capitalize(), [m[key] for m in models.values()]) for key in ("device", "dtype")]
    definitions = next(iter(models.values()))["definitions"].items()
    about = {k: f"{v:.2f}" if k.endswith("_mb") else html.escape(str(v)) for k, v in metrics["input"].items()}
    return Template(PAGE.read_text("utf-8")).substitute(
        about,
        rate=f"{metrics['input']['rate']:g}",
        threads=metrics["threads"],
        panes="\n".join(VIDEO.format(name=name, file=file) for name, file in videos),
        heads="".join(f'<th scope="col">{name}</th>' for name in names),
        rows="\n".join(rows),
        definitions="\n".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(text)}</dd>" for key, text in definitions),
        worst="\n".join(SHEET.format(name=name) for name in names),
        world_model=html.escape(metrics["world_model"]),
        parameters=f"{metrics['parameters'] / 1e6:.1f}",
        next="\n".join(_section(folder, clip, metrics["world_model"]) for folder, clip in going_on.items()),
        left_out=html.escape(metrics["left_out"] or ""),
        curation=demo_curation.section(metrics["curation"]),
        commands=html.escape(
            "\n".join(c for m in (*models.values(), *going_on.values(), metrics["curation"]) for c in m["commands"])
        ),
        links="\n".join(f'<li><a href="{file}">{file}</a></li>' for file in files),
    )


def _section(folder: str, clip: dict[str, Any], model: str) -> str:
    """What the page shows of one clip and how it goes on."""
    made, psnr, rate = clip["made"], clip["psnr"], clip["rate"]
    given, count = made["condition_frames"], made["frames"]
    gain = psnr["generation"] - psnr["copy_last_frame"]
    panes = {
        f"Input: {given} frames, then the last one held": f"{folder}/{BEGINNING}",
        f"Truth: all {count} frames": clip["truth"],
        f"Truth through {made['tokenizer']} and back": f"{folder}/{OUTPUT}",
        f"Generation by {model}": f"{folder}/{NEXT}",
    }
    strips = {"truth": "Truth", "round_trip": "Round trip", "generation": "Generation"}
    figures = {
        "generation": "Generation",
        "copy_last_frame": "Copy of the last given frame",
        "round_trip": "Round trip",
    }
    guidance = made["guidance"]["weight"]
    facts = {
        "Frames": f"{given} given, {count - given} generated, {made['width']}×{made['height']}, {rate:g} a second",
        "Tokens of the truth": "×".join(map(str, clip["token_shape"])),
        "Prompt": made["prompt"] or "none",
        "Seed": made["seed"],
        "Steps": f"{made['steps']} of {made['sampler']}",
        "Guidance": f"{guidance:g}" if guidance else "0 (none)",
        "Guard": "on" if made["guard"]["on"] else "off",
        "Versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
    }
    return Template(SECTION.read_text("utf-8")).substitute(
        title=clip["title"],
        folder=folder,
        seconds=given / rate,
        percent=f"{100 * given / count:.1f}",
        panes="\n".join(VIDEO.format(name=html.escape(name), file=html.escape(file)) for name, file in panes.items()),
        heads="".join(
            f'<span class="{"given" if column < given else "after"}">{column + 1}</span>' for column in clip["columns"]
        ),
        strips="\n".join(STRIP.format(name=name, file=f"{folder}/{key}.png") for key, name in strips.items()),
        rows="\n".join(_row(f"{folder}-{key}", name, [f"{psnr[key]:.2f}"]) for key, name in figures.items()),
        verdict=f"The generation is {abs(gain):.2f} dB {'above' if gain > 0 else 'below'} the copy.",
        facts="\n".join(f"<dt>{name}</dt><dd>{html.escape(str(fact))}</dd>" for name, fact in facts.items()),
    )


def _row(key: str, title: str, cells: list[str]) -> str:
    """A row of the page's table; the cells are escaped, the title is not."""
    return f'<tr id="{key}"><th scope="row">{title}</th>{"".join(f"<td>{html.escape(c)}</td>" for c in cells)}</tr>'


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder and return the exit code."""
    parser = argparse.ArgumentParser(description="Show what this does with real footage.")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to make anew (default out/demo)")
    parser.add_argument("--models", nargs="+", default=MODELS, help="shipped names or checkpoint files")
    parser.add_argument(
        "--world-model", default=WORLD_MODEL, help=f"shipped name, file, folder or hub id (default {WORLD_MODEL})"
    )
    parser.add_argument("--footage", type=Path, default=FOOTAGE, help="folder that footage is in or is fetched to")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    built = out.with_name(f".{out.name}.{os.getpid()}.partial")
    models = [str(Path(model).resolve()) if Path(model).is_file() else model for model in arguments.models]
    world_model = arguments.world_model
    if Path(world_model).exists():
        world_model = str(Path(world_model).resolve())
    start = time.monotonic()
    try:
        if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / "metrics.json").exists())):
            raise DemoError(f"{out} is there and was not made by this demo; name another folder")
        clip = find_clip(arguments.footage.resolve())
        built.mkdir(parents=True)
        with contextlib.chdir(built):
            make(clip, models, world_model)
        old = built.with_suffix(".old")
        if out.exists():
            out.rename(old)
        built.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    except (DemoError, InputError, OSError) as error:
        if line := " ".join(str(error).split()):
            print(f"demo: {line}", file=sys.stderr)
        return error.code if isinstance(error, DemoError) else 2
    finally:
        shutil.rmtree(built, ignore_errors=True)
    print(f"done in {time.monotonic() - start:.0f} s; open {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
