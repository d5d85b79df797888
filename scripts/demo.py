"""Real footage to token files and back with each shipped tokenizer, and one page that shows it; run by `nox -s demo`.

    python scripts/demo.py --out out/demo

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
from pathlib import Path
from string import Template
from typing import Any

import footage
import torch

from cosmos_tokenizer import InputError
from cosmos_tokenizer.cli import main as cosmos_tokenizer
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.video import Video, read_video, write_video

CLIP = "bikes.mp4"
FRAMES = 73
"""1 + 4 x 18 and 1 + 8 x 9, which the tokenizers take without padding: 2.9 s, to spare slow machines."""

MODELS = ("nano-cv4x8x8", "nano-dv4x8x8", "nano-cv8x8x8", "nano-dv8x16x16")
FOOTAGE = Path(__file__).resolve().parents[1] / "data" / "footage"
PAGE = Path(__file__).with_name("demo.html")
INPUT, TOKENS, OUTPUT = "input.mp4", "tokens.safetensors", "reconstruction.mp4"
VIDEO = '<figure><video src="{file}" muted playsinline></video><figcaption>{name}</figcaption></figure>'
SHEET = (
    '<figure><figcaption>{name}</figcaption><a href="{name}/worst.png">'
    '<img src="{name}/worst.png" alt="Input, reconstruction and difference of the worst frames of {name}"></a></figure>'
)
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


def run(*arguments: str) -> str:
    """Run one command as a person would and return it as typed."""
    typed = shlex.join(["cosmos-tokenizer", *arguments])
    print(f"$ {typed}", flush=True)
    if code := cosmos_tokenizer(arguments):
        raise DemoError("", code)
    return typed


def megabytes(path: Path) -> float:
    """The file's size in 10^6 bytes."""
    return path.stat().st_size / 1e6


def show(model: str) -> tuple[str, dict[str, Any]]:
    """Take the input through one model by way of a token file; returns the model's folder and what was measured."""
    name = Path(model).stem if Path(model).is_file() else model
    folder = Path(name)
    tokens, output = str(folder / TOKENS), str(folder / OUTPUT)
    commands = [
        run("encode", INPUT, tokens, "--model", model),
        run("decode", tokens, output, "--model", model),
        run("evaluate", INPUT, "--model", model, "--out", name),
    ]
    result = json.loads((folder / "metrics.json").read_text("utf-8"))
    (folder / "metrics.json").unlink()  # all of it goes into the one beside the page
    sizes = {"token_file_mb": megabytes(folder / TOKENS), "reconstruction_mb": megabytes(folder / OUTPUT)}
    figures = {"device": result["device"], "dtype": result["dtype"], **result["files"][0], **sizes}
    return name, {**figures, "commands": commands, "definitions": result["definitions"]}


def make(clip: Path, models: Sequence[str]) -> None:
    """Fill the current folder."""
    video = read_video(clip)
    frames = video.frames[:FRAMES]
    write_video(INPUT, Video(frames=frames, rate=video.rate))
    listing = tomllib.loads(footage.LIST.read_text("utf-8"))
    source = next(file for file in listing["files"] if file["name"] == CLIP)
    count, height, width, _ = frames.shape
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
        "models": dict(map(show, models)),
    }
    Path("metrics.json").write_text(to_json(metrics, indent=2) + "\n", "utf-8")
    Path("index.html").write_text(page(json.loads(Path("metrics.json").read_text("utf-8"))), "utf-8")


def page(metrics: dict[str, Any]) -> str:
    """The page as text, made from nothing but what metrics.json holds."""
    models: dict[str, dict[str, Any]] = metrics["models"]
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
        commands=html.escape("\n".join(command for m in models.values() for command in m["commands"])),
        links="\n".join(f'<li><a href="{file}">{file}</a></li>' for file in files),
    )


def _row(key: str, title: str, cells: list[str]) -> str:
    """A row of the page's table; the cells are escaped, the title is not."""
    return f'<tr id="{key}"><th scope="row">{title}</th>{"".join(f"<td>{html.escape(c)}</td>" for c in cells)}</tr>'


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder and return the exit code."""
    parser = argparse.ArgumentParser(description="Show what the shipped tokenizers do with real footage.")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder to make anew (default out/demo)")
    parser.add_argument("--models", nargs="+", default=MODELS, help="shipped names or checkpoint files")
    parser.add_argument("--footage", type=Path, default=FOOTAGE, help=f"folder that {CLIP} is in or is fetched to")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    built = out.with_name(f".{out.name}.{os.getpid()}.partial")
    models = [str(Path(model).resolve()) if Path(model).is_file() else model for model in arguments.models]
    start = time.monotonic()
    try:
        if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / "metrics.json").exists())):
            raise DemoError(f"{out} is there and was not made by this demo; name another folder")
        clip = find_clip(arguments.footage.resolve())
        built.mkdir(parents=True)
        with contextlib.chdir(built):
            make(clip, models)
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
