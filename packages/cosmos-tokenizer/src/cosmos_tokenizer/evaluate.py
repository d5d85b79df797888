"""How well and how fast a tokenizer reconstructs clips: the figures of arXiv 2501.03575 section 4.3.

Each clip is read, encoded, decoded and, after rounding to 8 bits, scored piece by piece. Compression counts 24 bits a
pixel of the clip against the tokens as stored: the bits of their dtype for latents, what a code needs for indices.
"""

import itertools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cosmos_tokenizer.jsontext import readable
from cosmos_tokenizer.media import in_pieces
from cosmos_tokenizer.metrics import RESAMPLES, WINDOW, finite_mean
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.observations import ClipObservations, Observations, code_figures
from cosmos_tokenizer.passes import Passes
from cosmos_tokenizer.tally import Sample, Tally
from cosmos_tokenizer.video import Footage

DEFINITIONS = {
    "psnr_frame": "mean over frames of each frame's PSNR in dB, 8-bit range 255; identical frames are left out",
    "psnr_video": "PSNR in dB of the mean squared error over all frames, 8-bit range 255; null where all are identical",
    "ssim": f"mean over frames, {WINDOW}x{WINDOW} uniform window, sample covariance, range 255, mean over channels",
    "compression": "24 bits a pixel over the bits of the tokens as stored",
    "ms_per_frame": "encoding plus decoding, wall time, after one short warm-up on the first clip",
    "window": "latent frames that temporal attention looked back on; null: all of them, exact",
    "memory_mb": "peak so far, networks of other figures included: of the GPU's allocator for the file, or of the "
    "whole process on a CPU",
    "lpips": "mean over frames of the distance by the network given, whole 8-bit frames scaled to [-1, 1]",
    "code_usage": "share of the codebook's codes that occur; in the mean, in all files together",
    "code_perplexity": "2 to the power of code_bits; in the mean, of all files together",
    "code_bits": "entropy of the codes' frequencies in bits, too low where codes are few; in the mean, of all files "
    "together",
    "rfid": "squared Fréchet distance, in float64, of the features of pictures and of their reconstructions, by the "
    "network given at 299x299 (bilinear, no antialiasing)",
    "rfvd": "squared Fréchet distance, in float64, of the features of clips and of their reconstructions, by the "
    "network given: first 300 frames, shorter side to 224 (bilinear, no antialiasing), centre, [-1, 1]",
    "low, high": f"95% of {RESAMPLES} resamplings of the pairs, less bias: how the distance varies with other clips, "
    "as many",
    "bias": "mean excess of the resampled distances, of the order of that of the distance itself over one of endless "
    "samples",
}
"""What the figures mean; written beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One clip's figures. Times in milliseconds per frame, memory in MB; PSNR is infinite for identical clips.

    `window` is how many latent frames temporal attention looked back on where that was fewer than the clip has. Codes
    are a discrete model's; LPIPS needs a network.
    """

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
    window: int | None = None
    lpips: float | None = None
    code_usage: float | None = None
    code_perplexity: float | None = None
    code_bits: float | None = None

    @property
    def ms_per_frame(self) -> float:
        """Encoding plus decoding."""
        return self.encode_ms + self.decode_ms


def score_clip(
    passes: Passes,
    footage: Footage,
    name: str,
    *,
    samples: int = 1,
    done: Callable[[int], None] | None = None,
    observed: ClipObservations | None = None,
) -> tuple[Score, list[Sample]]:
    """Encode, decode and score one clip piece by piece; also return its worst frames, `samples` at most.

    `done` hears of frames as they are scored, `observed` sees codes and frames.
    """
    model, device, name = passes.model, passes.model.device, readable(name)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    # Of neighbours, which look alike, one is shown; where the length is unknown, one of every 24 frames.
    span = -(-footage.announced // samples) if footage.announced else 24
    tally = Tally(name, samples=samples, span=span)
    encoding, decoding = _Stopwatch(device), _Stopwatch(device)
    waiting: deque[UInt8[np.ndarray, "H W 3"]] = deque()

    def read() -> Iterator[UInt8[np.ndarray, "T H W 3"]]:
        for piece in in_pieces(footage.frames, passes.frames):
            waiting.extend(piece)
            yield piece

    def encode() -> Iterator[Tensor]:
        for tokens in passes.encode(read(), run=encoding):
            if observed is not None:
                observed.tokens(tokens)
            yield tokens

    for after in passes.decode(encode(), run=decoding):
        before = np.stack([waiting.popleft() for _ in range(min(len(waiting), len(after)))])
        after = after[: len(before)]  # the rest of the last latent frame is padding
        tally.add(before, after)
        if observed is not None:
            observed.frames(before, after)
        if done is not None:
            done(len(before))
    height, width = footage.size
    token_shape = passes.token_shape(tally.frames)
    bits = math.prod(token_shape) * _bits(model)
    score = Score(
        file=name,
        frames=tally.frames,
        height=height,
        width=width,
        token_shape=token_shape,
        compression=tally.frames * height * width * 24 / bits,
        psnr_frame=tally.psnr_frame,
        psnr_video=tally.psnr_video,
        ssim=tally.ssim,
        identical_frames=tally.identical_frames,
        encode_ms=encoding.ms / tally.frames,
        decode_ms=decoding.ms / tally.frames,
        memory_mb=_peak_memory_mb(device),
        window=passes.window if passes.bounds(tally.frames) else None,
        **({} if observed is None else observed.finish()),
    )
    return score, tally.worst


def warm_up(passes: Passes, footage: Footage) -> None:
    """Run the first frames once, so that one-time costs (kernels, caches) are not timed."""
    first = itertools.islice(footage.frames, 1 + passes.frames)
    for _ in passes.decode(passes.encode(in_pieces(first, passes.frames))):
        pass


def summary(scores: Sequence[Score], observed: Observations | None = None) -> dict[str, Any]:
    """Return the means over files, the largest memory, totals, and the use of codes in all files together."""
    frames = sum(score.frames for score in scores)
    total_ms = sum(score.ms_per_frame * score.frames for score in scores)
    distances = [score.lpips for score in scores if score.lpips is not None]
    return {
        "files": len(scores),
        "frames": frames,
        "psnr_frame": finite_mean(score.psnr_frame for score in scores),
        "psnr_video": finite_mean(score.psnr_video for score in scores),
        "ssim": sum(score.ssim for score in scores) / len(scores),
        "compression": sum(score.compression for score in scores) / len(scores),
        "ms_per_frame": total_ms / frames,
        "memory_mb": max(score.memory_mb for score in scores),
        "lpips": sum(distances) / len(distances) if distances else None,
        **code_figures(None if observed is None else observed.codes),
    }


def row(score: Score) -> dict[str, Any]:
    """Return one clip's figures by name."""
    return asdict(score) | {"ms_per_frame": score.ms_per_frame}


def table(scores: Sequence[Score], observed: Observations | None = None) -> str:
    """Return the figures as aligned text, one line a file and the means below; what was not measured has no column."""
    head = ["file", "frames", "size", "tokens", "ratio", "PSNR/frame", "PSNR/video", "SSIM", "ms/frame", "MB"]
    head += [column for name, (column, _) in _MORE.items() if row(scores[0])[name] is not None]
    lines = [head]
    for s in scores:
        shape = "x".join(map(str, s.token_shape))
        lines.append([s.file, str(s.frames), f"{s.height}x{s.width}", shape, f"{s.compression:.1f}", *_figures(row(s))])
    if len(scores) > 1:
        mean = summary(scores, observed)
        lines.append(["mean", str(mean["frames"]), "", "", f"{mean['compression']:.1f}", *_figures(mean)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    )


_MORE = {"lpips": ("LPIPS", "{:.4f}"), "code_usage": ("codes", "{:.1%}"), "code_perplexity": ("perplexity", "{:.1f}")}


def _figures(of: Mapping[str, Any]) -> list[str]:
    decibels = [f"{of['psnr_frame']:.2f}", f"{of['psnr_video']:.2f}"]
    more = [form.format(of[name]) for name, (_, form) in _MORE.items() if of[name] is not None]
    return [*decibels, f"{of['ssim']:.4f}", f"{of['ms_per_frame']:.1f}", f"{of['memory_mb']:.0f}", *more]


def _bits(model: CausalTokenizer) -> int:
    if model.config.kind == "discrete":
        return math.ceil(math.log2(model.config.codebook_size))
    return model.dtype.itemsize * 8


class _Stopwatch:
    """Adds up the milliseconds of the calls that it runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.ms = 0.0

    def __call__(self, call: Callable[[], Tensor | None]) -> Tensor | None:
        start = self._now()
        result = call()
        self.ms += (self._now() - start) * 1000
        return result

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource  # absent on Windows, where only a GPU's memory can be told

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
