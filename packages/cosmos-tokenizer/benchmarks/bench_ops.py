"""Bandwidth of the Haar, FSQ and norm kernels beside a copy's on the same GPU: `python benchmarks/bench_ops.py`.

Bytes are those that an operation cannot do without: its inputs and its outputs, once, but a norm's frames are read
twice, for they must all be known before one is normed. The goal for Haar is 85 % of the copy, measured here on as many
bytes.
"""

import argparse
import json
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from cosmos_tokenizer import fsq, haar
from cosmos_tokenizer.backend import Backend
from cosmos_tokenizer.frame_norm import norm_silu
from cosmos_tokenizer.presets import FSQ_LEVELS

REPEATS = 30
CYCLES = 4_000_000
"""For which the GPU waits, about 2 ms, while the calls that are timed are launched."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def seconds(run: Callable[[], object]) -> float:
    """Median time on the GPU of one call, the caches full of something else; the time to launch it does not count."""
    flush = torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")
    for _ in range(5):
        run()
    times = []
    for _ in range(REPEATS):
        flush.zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(CYCLES)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return median(times)


def size(*tensors: Tensor) -> int:
    """Bytes of all of them."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def copy_bandwidth(total: int) -> float:
    """Bytes a second of a copy that reads and writes `total` bytes together."""
    source = torch.empty(total // 2, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return size(source, target) / seconds(lambda: target.copy_(source))


def haar_cases(x: Tensor, patch_size: int, backend: Backend) -> dict[str, tuple[Callable[[], object], int]]:
    """What to time, and the bytes that it needs."""
    options = {"patch_size": patch_size, "media": "video", "backend": backend}
    asked = x.detach().requires_grad_()
    y = haar.patch(asked, **options)
    bands = y.detach().requires_grad_()
    back = haar.unpatch(bands, **options)
    grad_y, grad_x = torch.randn_like(y), torch.randn_like(back)
    total = size(x, y)
    return {
        "patch": (lambda: haar.patch(x, **options), total),
        "unpatch": (lambda: haar.unpatch(bands.detach(), **options), total),
        "patch backward": (lambda: torch.autograd.grad(y, asked, grad_y, retain_graph=True), total),
        "unpatch backward": (lambda: torch.autograd.grad(back, bands, grad_x, retain_graph=True), total),
    }


def fsq_cases(z: Tensor, backend: Backend) -> dict[str, tuple[Callable[[], object], int]]:
    """What to time, and the bytes that it needs."""
    asked = z.detach().requires_grad_()
    codes, indices = fsq.codes_and_indices(asked, FSQ_LEVELS, backend=backend)
    grad = torch.randn_like(codes)
    return {
        "codes and indices": (
            lambda: fsq.codes_and_indices(z, FSQ_LEVELS, backend=backend),
            size(z, codes, indices),
        ),
        "backward": (lambda: torch.autograd.grad(codes, asked, grad, retain_graph=True), size(z, grad, z)),
    }


def norm_cases(h: Tensor, backend: Backend) -> dict[str, tuple[Callable[[], object], int]]:
    """What to time, and the bytes that it needs."""
    weight, bias = torch.randn(2, h.shape[1], device="cuda", dtype=h.dtype)
    options = {"groups": 1, "eps": 1e-6, "backend": backend}
    return {
        name: (lambda silu=silu: norm_silu(h, weight, bias, silu=silu, **options), size(h, h, h))
        for name, silu in (("alone", False), ("and silu", True))
    }


def rows(frames: int, height: int, width: int) -> list[dict[str, object]]:
    """One row for each operation, dtype and backend, on a clip, on latents enough to outweigh the launch, and on
    activations of the network's first level."""
    found = []
    for name, dtype in DTYPES.items():
        x = torch.randn(1, 3, frames, height, width, device="cuda", dtype=dtype)
        z = torch.randn(1, 6, 64, height, width, device="cuda", dtype=dtype)
        h = torch.randn(-(-frames // 4), height // 4, width // 4, 256, device="cuda", dtype=dtype).movedim(-1, 1)
        for backend in ("triton", "reference"):
            cases = {
                f"haar {patch_size} {case}": (x, value)
                for patch_size in (4, 2)
                for case, value in haar_cases(x, patch_size, backend).items()
            }
            cases |= {f"fsq {case}": (z, value) for case, value in fsq_cases(z, backend).items()}
            cases |= {f"norm {case}": (h, value) for case, value in norm_cases(h, backend).items()}
            for operation, (given, (run, total)) in cases.items():
                rate = total / seconds(run)
                found.append(
                    {
                        "operation": operation,
                        "shape": list(given.shape),
                        "dtype": name,
                        "backend": backend,
                        "gigabytes_per_second": round(rate / 1e9, 1),
                        "share_of_copy": round(rate / copy_bandwidth(total), 3),
                    }
                )
    return found


def main() -> None:
    """Print a table, or with `--json` one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print(json.dumps({"device": None, "rows": []}) if arguments.json else "bench_ops: no CUDA device, no figures")
        return
    device = torch.cuda.get_device_name()
    found = rows(arguments.frames, *arguments.size)
    if arguments.json:
        print(json.dumps({"device": device, "torch": torch.__version__, "rows": found}))
        return
    print(f"device: {device}, torch {torch.__version__}\n")
    print("| operation | shape | dtype | backend | GB/s | of a copy |\n|---|---|---|---|---|---|")
    for row in found:
        shape = "x".join(map(str, row["shape"]))
        print(
            f"| {row['operation']} | {shape} | {row['dtype']} | {row['backend']} "
            f"| {row['gigabytes_per_second']:.0f} | {row['share_of_copy']:.0%} |"
        )


if __name__ == "__main__":
    main()
