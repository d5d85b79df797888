"""How well and how fast a tokenizer reconstructs clips: the figures of arXiv 2501.03575 section 4.3, without rFVD.

Each clip is read, encoded, decoded and scored once, after rounding to 8 bits. Compression counts the clip's 24 bits a
pixel against the tokens as stored: the bits of their dtype for latents, the bits that a code needs for indices.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.metrics import WINDOW, finite_mean, psnr_per_frame, psnr_per_video, ssim_per_frame
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.progress import Progress

DEFINITIONS = {
    "psnr_frame": "mean over frames of each frame's PSNR in dB, 8-bit range 255; identical frames are left out",
    "psnr_video": "PSNR in dB of the mean squared error over all frames, 8-bit range 255; null where all are identical",
    "ssim": f"mean over frames, {WINDOW}x{WINDOW} uniform window, sample covariance, range 255, mean over channels",
    "compression": "24 bits a pixel over the bits of the tokens as stored",
    "ms_per_frame": "encoding plus decoding, wall time, after one short warm-up on the first clip",
    "memory_mb": "peak so far: of the GPU's allocator for the file, or of the whole process on a CPU",
}
"""What the figures mean; written beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One clip's figures. Times in milliseconds per frame, memory in MB; PSNR is infinite for identical clips."""

    file: str
    frames: int
    height: int
    width: int
    token_shape: tuple[int, ...]
    compression: float
    psnr_frame: float
    psnr_video: float
    ssim: float
    identical_frames: int
    encode_ms: float
    decode_ms: float
    memory_mb: float

    @property
    def ms_per_frame(self) -> float:
        """Encoding plus decoding."""
        return self.encode_ms + self.decode_ms


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One frame before and after, for looking at."""

    label: str
    psnr: float
    before: UInt8[np.ndarray, "H W 3"]
    after: UInt8[np.ndarray, "H W 3"]


def score_clip(
    model: CausalTokenizer, frames: UInt8[np.ndarray, "T H W 3"], name: str, *, progress: Progress, samples: int = 1
) -> tuple[Score, list[Sample]]:
    """Encode, decode and score one clip; also return its worst frame in each of `samples` spans of equal length."""
    device, name = model.device, readable(name)
    count, height, width, _ = frames.shape
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clip = to_clip(frames, device)
    with torch.inference_mode():
        with progress.follow(model.encoder, 0.4):
            tokens, encode_ms = _timed(lambda: model.encode(clip), device)
        with progress.follow(model.decoder, 0.4):
            out, decode_ms = _timed(lambda: model.decode(tokens, frames=count, size=(height, width)), device)
    memory = _peak_memory_mb(device)
    after = to_frames(out)
    del clip, out
    x, y = torch.from_numpy(frames), torch.from_numpy(after)
    psnr = psnr_per_frame(x, y)
    score = Score(
        file=name,
        frames=count,
        height=height,
        width=width,
        token_shape=tuple(tokens.shape[1:]),
        compression=frames.size * 8 / (tokens.numel() * _bits(model, tokens)),
        psnr_frame=finite_mean(psnr.tolist()),
        psnr_video=psnr_per_video(x, y),
        ssim=float(ssim_per_frame(x, y).mean()),
        identical_frames=int(psnr.isinf().sum()),
        encode_ms=encode_ms / count,
        decode_ms=decode_ms / count,
        memory_mb=memory,
    )
    progress.advance(0.1)
    worst = [span + int(psnr[span:end].argmin()) for span, end in _spans(count, samples)]
    return score, [
        Sample(label=f"{name}, frame {i}", psnr=float(psnr[i]), before=frames[i].copy(), after=after[i].copy())
        for i in worst
    ]


def warm_up(model: CausalTokenizer, frames: UInt8[np.ndarray, "T H W 3"]) -> None:
    """Run the first frames once, so that one-time costs (kernels, caches) are not timed."""
    with torch.inference_mode():
        model.reconstruct(to_clip(frames[: 1 + model.geometry.temporal], model.device))


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Return the means over files, the largest memory, and totals."""
    frames = sum(score.frames for score in scores)
    total_ms = sum(score.ms_per_frame * score.frames for score in scores)
    return {
        "files": len(scores),
        "frames": frames,
        "psnr_frame": finite_mean(score.psnr_frame for score in scores),
        "psnr_video": finite_mean(score.psnr_video for score in scores),
        "ssim": sum(score.ssim for score in scores) / len(scores),
        "compression": sum(score.compression for score in scores) / len(scores),
        "ms_per_frame": total_ms / frames,
        "memory_mb": max(score.memory_mb for score in scores),
    }


def row(score: Score) -> dict[str, Any]:
    """Return one clip's figures by name."""
    return asdict(score) | {"ms_per_frame": score.ms_per_frame}


def table(scores: Sequence[Score]) -> str:
    """Return the figures as aligned text, one line a file and the means below."""
    head = ["file", "frames", "size", "tokens", "ratio", "PSNR/frame", "PSNR/video", "SSIM", "ms/frame", "MB"]
    lines = [head]
    for s in scores:
        shape = "x".join(map(str, s.token_shape))
        lines.append([s.file, str(s.frames), f"{s.height}x{s.width}", shape, f"{s.compression:.1f}", *_figures(row(s))])
    if len(scores) > 1:
        mean = summary(scores)
        lines.append(["mean", str(mean["frames"]), "", "", f"{mean['compression']:.1f}", *_figures(mean)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


def _figures(of: Mapping[str, Any]) -> list[str]:
    decibels = [f"{of['psnr_frame']:.2f}", f"{of['psnr_video']:.2f}"]
    return [*decibels, f"{of['ssim']:.4f}", f"{of['ms_per_frame']:.1f}", f"{of['memory_mb']:.0f}"]


def _spans(count: int, pieces: int) -> list[tuple[int, int]]:
    pieces = min(count, pieces)
    return [(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


def _bits(model: CausalTokenizer, tokens: Tensor) -> int:
    if model.config.kind == "discrete":
        return math.ceil(math.log2(model.config.codebook_size))
    return tokens.element_size() * 8


def _timed(run: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    start = now()
    result = run()
    return result, (now() - start) * 1000


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource  # absent on Windows, where only a GPU's memory can be told

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
