"""A picture of the worst frames: input, reconstruction and amplified difference side by side, worst first."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.tally import Sample

AMPLIFIED = 8
"""Factor on the absolute difference; 255 / 8 = 32 grey levels and more show as full brightness."""

ROWS = 6
"""Frames shown at most."""

_WIDTH = 640
_TITLE = 18


def write_worst(path: Path | str, samples: Sequence[Sample]) -> None:
    """Write the PNG of the `ROWS` samples with the lowest PSNR, frames wider than 640 pixels scaled down.

    Raises:
        OSError: the file cannot be written; nothing is left of it then.
    """
    worst = sorted(samples, key=lambda sample: sample.psnr)[:ROWS]
    rows = [_row(sample) for sample in worst]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    memory = io.BytesIO()
    sheet.save(memory, "PNG")
    write_whole(path, memory.getbuffer())


def difference(before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return the absolute difference times `AMPLIFIED`, clipped to 8 bits."""
    return (np.abs(before.astype(np.int32) - after) * AMPLIFIED).clip(0, 255).astype(np.uint8)


def _row(sample: Sample) -> Image.Image:
    decibel = f"{sample.psnr:.2f} dB" if math.isfinite(sample.psnr) else "identical"
    titles = [sample.label, f"reconstruction, {decibel}", f"difference x {AMPLIFIED}"]
    panels = [_fitted(p) for p in (sample.before, sample.after, difference(sample.before, sample.after))]
    width, height = panels[0].size
    column = max(width, 200)
    row = Image.new("RGB", (column * 3 + 8, height + _TITLE + 4), "white")
    draw = ImageDraw.Draw(row)
    for index, (title, panel) in enumerate(zip(titles, panels, strict=True)):
        left = index * (column + 4)
        draw.text((left + 2, 3), _shortened(title, column, draw), fill="black")
        row.paste(panel, (left, _TITLE))
    return row


def _shortened(title: str, width: int, draw: ImageDraw.ImageDraw) -> str:
    """Cut from the left: a frame's number stands at the end."""
    plain = title.encode("ascii", "replace").decode()
    while draw.textlength(plain) > width - 4:
        plain = plain[1:]
    return plain


def _fitted(frame: UInt8[np.ndarray, "H W 3"]) -> Image.Image:
    picture = Image.fromarray(frame)
    if picture.width > _WIDTH:
        height = max(1, round(picture.height * _WIDTH / picture.width))
        picture = picture.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    return picture
