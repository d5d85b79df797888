"""The fixed held-out clips, real camera footage that no training pool may hold, and how near reconstructions come.

bikes (a street, 25 fps) is its centre square scaled to 256x256; carphone (a talking head, QCIF) stays 144x176.
Both give windows of 17 frames, each within one shot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from cosmos_posttrain.clip_pool import to_video
from cosmos_posttrain.film import opened
from cosmos_posttrain.losses import perceptual_distance
from cosmos_posttrain.losses.features import FeatureNetwork
from cosmos_tokenizer import InputError
from cosmos_tokenizer.metrics import psnr_per_frame, psnr_per_video
from cosmos_tokenizer.progress import Progress

FRAMES = 17
STARTS: Mapping[str, tuple[int, ...]] = {"bikes": (10, 45, 100, 155, 210), "carphone": (10, 50, 90)}
SQUARE: Mapping[str, int] = {"bikes": 256}
"""Clips whose centre square is scaled to this side; the others keep their size."""

PSNR = ("per_frame", "per_video", "first_frame", "worst_frame")
DISTANCE = "perceptual_distance"

Array = np.ndarray
Reconstruct = Callable[[Tensor], Tensor]
"""Video B C T H W in [-1, 1] to the same shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """A window of a held-out clip, for example `bikes@10`."""

    name: str
    frames: UInt8[Array, "T H W 3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One codec on one window, in dB but for the distance; reconstructions are clamped to the range, not rounded."""

    clip: str
    codec: str
    per_frame: float
    """Mean over frames of each frame's PSNR."""
    per_video: float
    """PSNR of the mean squared error over all frames."""
    first_frame: float
    worst_frame: float
    perceptual_distance: float | None = None
    """Mean over frames of ``losses.perceptual_distance``, 0 to 4, where a network judges."""

    def figures(self) -> dict[str, float]:
        """All numbers by name."""
        figures = {key: getattr(self, key) for key in PSNR}
        return figures if self.perceptual_distance is None else figures | {DISTANCE: self.perceptual_distance}


def held_out(footage_dir: Path | str) -> list[HeldOut]:
    """All windows, in order. Raises InputError when a clip has not been fetched."""
    windows = []
    for clip, starts in STARTS.items():
        path = Path(footage_dir) / f"{clip}.mp4"
        if not path.exists():
            raise InputError(f"no {path}; fetch it with scripts/footage.py --only {clip}")
        frames = read_frames(path, starts[-1] + FRAMES, SQUARE.get(clip))
        windows += [HeldOut(name=f"{clip}@{start}", frames=frames[start : start + FRAMES]) for start in starts]
    return windows


def read_frames(path: Path, count: int, square: int | None) -> UInt8[Array, "T H W 3"]:
    """First ``count`` frames; ``square`` cuts the centre square and scales it to that side."""
    frames = []
    with opened(path) as container:
        for frame in container.decode(video=0):
            image = frame.to_image()
            if square is not None:
                side = min(image.size)
                left, top = (image.width - side) / 2, (image.height - side) / 2
                box = (left, top, left + side, top + side)
                image = image.resize((square, square), Image.Resampling.LANCZOS, box=box)
            frames.append(np.asarray(image))
            if len(frames) == count:
                return np.stack(frames)
    raise InputError(f"{path} has {len(frames)} frames, fewer than {count}; fetch it again with scripts/footage.py")


def evaluate(
    codecs: Mapping[str, Reconstruct], clips: Sequence[HeldOut], judge: FeatureNetwork | None = None
) -> list[Score]:
    """Score every codec on every clip, clip by clip, and show progress on standard output.

    Args:
        codecs: by name.
        clips: windows.
        judge: network of the perceptual distance; None for none.
    """
    scores = []
    with Progress(len(clips) * len(codecs)) as progress:
        for clip in clips:
            for name, reconstruct in codecs.items():
                progress.start(f"{name} on {clip.name}")
                with progress.follow(reconstruct if isinstance(reconstruct, nn.Module) else None, 1.0):
                    scores.append(score(clip, name, reconstruct, judge))
    return scores


def score(clip: HeldOut, codec: str, reconstruct: Reconstruct, judge: FeatureNetwork | None = None) -> Score:
    """Figures of one codec on one window; ``judge`` as :func:`evaluate` takes it."""
    video = to_video(clip.frames[None])
    with torch.inference_mode():
        rebuilt = reconstruct(video).float().clamp(-1, 1)
    a, b = (rearrange(x, "1 c t h w -> t h w c") for x in (video, rebuilt))
    frames = psnr_per_frame(a, b, data_range=2.0)
    return Score(
        clip=clip.name,
        codec=codec,
        per_frame=float(frames.mean()),
        per_video=psnr_per_video(a, b, data_range=2.0),
        first_frame=float(frames[0]),
        worst_frame=float(frames.min()),
        perceptual_distance=None if judge is None else float(perceptual_distance(judge, rebuilt, video).mean()),
    )


def summarise(scores: Sequence[Score]) -> dict[str, dict[str, dict[str, float]]]:
    """Codec -> clip (windows averaged) and `mean` (clips averaged) -> the figures of a score."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for codec in dict.fromkeys(s.codec for s in scores):
        clips = {}
        for clip in dict.fromkeys(s.clip.split("@")[0] for s in scores):
            rows = [s.figures() for s in scores if s.codec == codec and s.clip.split("@")[0] == clip]
            clips[clip] = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        mean = {key: sum(clip[key] for clip in clips.values()) / len(clips) for key in next(iter(clips.values()))}
        table[codec] = clips | {"mean": mean}
    return table


def table(scores: Sequence[Score]) -> str:
    """A Markdown table, a line per window and codec, then a line per clip and codec."""
    judged = bool(scores) and scores[0].perceptual_distance is not None
    heads = ["clip", "codec", "PSNR per frame", "per video", "first frame", "worst frame"]
    heads += ["perceptual distance"] if judged else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [row(s.clip, s.codec, s.figures()) for s in scores]
    for codec, clips in summarise(scores).items():
        lines += [row(f"**{clip}**", codec, figures) for clip, figures in clips.items()]
    return "\n".join(lines)


def row(clip: str, codec: str, figures: Mapping[str, float]) -> str:
    """One line of the Markdown table."""
    shown = [f"{value:.4f}" if key == DISTANCE else f"{value:.2f}" for key, value in figures.items()]
    return f"| {clip} | {codec} | {' | '.join(shown)} |"
