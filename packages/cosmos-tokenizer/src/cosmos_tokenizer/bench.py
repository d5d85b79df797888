"""Time and memory of a tokenizer on this machine: the trained form, the folded form and the stream, side by side."""

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.streaming import StreamDecoder, StreamEncoder

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Best of several runs: seconds, and the most bytes held above those held before (None where nothing tells)."""

    seconds: float
    bytes: int | None


Halves = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def forms(model: CausalTokenizer) -> dict[str, Halves]:
    """Encoders and decoders of a clip by the name of the form."""
    folded = model.fold()
    found: dict[str, Halves] = {"trained": (model.encode, model.decode), "folded": (folded.encode, folded.decode)}
    if model.config.media == "video":
        found["folded, stream"] = (
            lambda clip: _joined(folded.stream_encoder(), clip, folded.geometry.temporal, 2),
            lambda tokens: _joined(folded.stream_decoder(), tokens, 1, tokens.dim() - 3),
        )
    return found


@torch.no_grad()
def measure(runs: Mapping[str, Callable[[], object]], *, repeat: int, device: torch.device) -> dict[str, Cost]:
    """Cost of every run; they take turns, so that what else the machine does falls on all of them.

    Args:
        runs: what to run, by name.
        repeat: how often each runs after one run that does not count.
        device: where the runs compute.
    """
    costs: dict[str, Cost] = {}
    for turn in range(repeat + 1):
        for name, run in runs.items():
            cost = _once(run, device)
            if turn == 1 or (turn and cost.seconds < costs[name].seconds):
                costs[name] = cost
    return costs


def clip_of(model: CausalTokenizer, frames: int, size: tuple[int, int]) -> Float[Tensor, "1 3 T H W"]:
    """Random clip in [-1, 1] on the model's device; an image tokenizer gets one frame."""
    count = frames if model.config.media == "video" else 1
    values = torch.rand(1, 3, count, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return values.to(model.device, model.dtype)


def bench(model: CausalTokenizer, *, frames: int, size: tuple[int, int], repeat: int) -> list[dict[str, Any]]:
    """Rows of the table: form, half, milliseconds a frame, peak memory above the weights in MB."""
    clip = clip_of(model, frames, size)
    with torch.no_grad():
        tokens = model.encode(clip)
    rows = []
    for half, given, index in (("encode", clip, 0), ("decode", tokens, 1)):
        runs = {name: partial(halves[index], given) for name, halves in forms(model).items()}
        for name, cost in measure(runs, repeat=repeat, device=model.device).items():
            memory = None if cost.bytes is None else cost.bytes / 1e6
            rows.append({"form": name, "half": half, "ms_per_frame": cost.seconds * 1e3 / clip.shape[2], "mb": memory})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text."""
    lines = [f"{'form':<16}{'half':<8}{'ms/frame':>10}{'peak MB':>10}"]
    for row in rows:
        memory = "-" if row["mb"] is None else f"{row['mb']:.0f}"
        lines.append(f"{row['form']:<16}{row['half']:<8}{row['ms_per_frame']:>10.2f}{memory:>10}")
    return "\n".join(lines)


def _once(run: Callable[[], object], device: torch.device) -> Cost:
    gc.collect()
    before = _start_peak(device)
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = _peak(device)
    del result
    return Cost(seconds=seconds, bytes=None if before is None or peak is None else max(0, peak - before))


def _start_peak(device: torch.device) -> int | None:
    """Begin to watch memory and return what is held now."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu" or sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc: what earlier runs freed must not hide what this one needs
        libc.malloc_trim(0)
    try:
        _RESET.write_text("5")
    except OSError:  # some containers forbid it
        return None
    return _status("VmRSS")


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") if device.type == "cpu" and sys.platform == "linux" else None


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _joined(stream: StreamEncoder | StreamDecoder, whole: Tensor, unit: int, axis: int) -> Tensor:
    pieces = [stream.push(piece) for piece in (whole.narrow(axis, 0, 1), *_rest(whole, unit, axis))]
    stream.flush()
    found = [piece for piece in pieces if piece is not None]
    return torch.cat(found, dim=2 if found[0].dim() == 5 else 1)


def _rest(whole: Tensor, unit: int, axis: int) -> list[Tensor]:
    left = whole.narrow(axis, 1, whole.shape[axis] - 1)
    return list(left.split(unit, dim=axis)) if left.shape[axis] else []
