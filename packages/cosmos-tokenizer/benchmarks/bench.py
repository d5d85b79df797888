"""One table: speed and memory beside diffusers' AutoencoderKLCosmos and CogVideoX, and what approximations cost.

Same weights, same clip, side by side in one process, peers taking turns; memory in a process of its own for each, with
an allocator that returns freed blocks. The full-size nets have random weights, the quality rows the shipped ones.

    python benchmarks/bench.py [--clip VIDEO] [--quick]
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLCosmos
from torch import Tensor

from cosmos_tokenizer import PRESETS, CausalTokenizer, Tiles, load
from cosmos_tokenizer.bench import measure
from cosmos_tokenizer.diffusers_layout import to_diffusers
from cosmos_tokenizer.media import to_clip
from cosmos_tokenizer.products import emulated
from cosmos_tokenizer.video import read_video

NET = "cv8x8x8-720p"
Pass = Callable[[Tensor], Tensor]
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table but for the device, which is that of all lines; the ratio says of what."""

    what: str
    shape: str
    dtype: str
    ours: str
    peer: str
    ratio: str = ""


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", help="real footage for the window and tiling rows, which are left out without it")
    parser.add_argument("--quick", action="store_true", help="small frames, one repetition, to see that all of it runs")
    parser.add_argument("--memory-of", nargs=3, metavar=("NAME", "FRAMES", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.memory_of:
        name, frames, side = args.memory_of
        print(json.dumps(peak_bytes(name, int(frames), int(side), device)))
        return
    name = name_of(device)
    print(f"torch {torch.__version__}\n")
    print("| what | shape | dtype | device | ours | peer | ratio |\n|---|---|---|---|---|---|---|", flush=True)
    for row in rows(device, args.clip, quick=args.quick):
        print(
            f"| {row.what} | {row.shape} | {row.dtype} | {name} | {row.ours} | {row.peer} | {row.ratio} |", flush=True
        )


def name_of(device: torch.device) -> str:
    """What the rows were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {torch.backends.cpu.get_cpu_capability()}, {threads} thread{'s' if threads > 1 else ''}"


def speed(ours: float, theirs: float) -> str:
    """Seconds beside the peer's, in words."""
    return f"{theirs / ours:.2f}x faster" if ours <= theirs else f"{ours / theirs:.2f}x slower"


def rows(device: torch.device, clip: str | None, *, quick: bool) -> Iterator[Row]:
    """All rows of this machine."""
    side, repeat = (64, 1) if quick else (256, 3)
    model = random_model()
    peer = diffusers_of(model)
    for frames in (9, 17):
        yield from against_diffusers(model, peer, frames, side, repeat, torch.float32, device)
    native = torch.bfloat16 not in emulated(device.type)
    half_side = side if native else 64  # a CPU without bfloat16 instructions needs minutes for the peer's larger frames
    yield from against_diffusers(model, peer, 9, half_side, repeat if native else 1, torch.bfloat16, device)
    del peer
    for frames in (9, 17):
        yield memory_row(frames, side)
    yield against_cogvideox(9, side // 2, device)
    yield from against_one_pass(device, side, repeat)
    if clip is not None:
        yield from approximations(clip, device)


def random_model() -> CausalTokenizer:
    """The full-size net with random weights, and norms that are not the identity."""
    torch.manual_seed(0)
    return CausalTokenizer(PRESETS[NET]).eval()


def diffusers_of(model: CausalTokenizer) -> AutoencoderKLCosmos:
    """diffusers' class with the same weights."""
    weights, fields = to_diffusers(model)
    peer = AutoencoderKLCosmos.from_config(fields).eval()
    peer.load_state_dict(weights)
    return peer


def random_clip(frames: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Clip in [-1, 1]."""
    values = torch.rand(1, 3, frames, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return values.to(device, dtype)


def passes_of_peer(peer: AutoencoderKLCosmos | AutoencoderKLCogVideoX) -> tuple[Pass, Pass]:
    """Encode and decode of a diffusers autoencoder."""
    return lambda clip: peer.encode(clip).latent_dist.mode(), lambda z: peer.decode(z).sample


def against_diffusers(
    model: CausalTokenizer,
    peer: AutoencoderKLCosmos,
    frames: int,
    side: int,
    repeat: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[Row]:
    """Encode plus decode of the folded and the trained form against the peer, and how far they are apart."""
    model, peer = model.to(device, dtype), peer.to(device).to(dtype)
    folded, clip = model.fold(), random_clip(frames, side, dtype, device)
    encode, decode = passes_of_peer(peer)
    pooled = F.avg_pool3d
    if device.type == "cpu" and dtype == torch.bfloat16:  # which has no such kernel there
        F.avg_pool3d = lambda x, *rest, **named: pooled(x.float(), *rest, **named).to(x.dtype)
    try:
        with torch.inference_mode():
            runs = {
                "peer": lambda: decode(encode(clip)),
                "folded": lambda: folded.decode_raw(folded.encode_raw(clip)),
                "trained": lambda: model.decode_raw(model.encode_raw(clip)),
            }
            costs = measure(runs, repeat=repeat, device=device)
            z = encode(clip)
            apart = float((folded.decode_raw(z) - decode(z)).abs().max())
    finally:
        F.avg_pool3d = pooled
    shape, name = f"{frames}x{side}x{side}", str(dtype).removeprefix("torch.")
    theirs = costs["peer"].seconds
    for form in ("folded", "trained"):
        ours = costs[form].seconds
        yield Row(
            what=f"encode + decode, {form} / diffusers Cosmos",
            shape=shape,
            dtype=name,
            ours=f"{ours:.3f} s",
            peer=f"{theirs:.3f} s",
            ratio=speed(ours, theirs),
        )
    yield Row(what="largest difference of the folded decoder", shape=shape, dtype=name, ours=f"{apart:.1e}", peer="0")


def memory_row(frames: int, side: int) -> Row:
    """Peak memory above the weights of encode plus decode, ours folded against the peer."""

    def peak(name: str) -> int:
        command = [sys.executable, __file__, "--memory-of", name, str(frames), str(side)]
        done = subprocess.run(command, env=os.environ | RETURNING, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    ours, theirs = peak("folded"), peak("diffusers")
    return Row(
        what="peak memory above the weights, folded / diffusers Cosmos",
        shape=f"{frames}x{side}x{side}",
        dtype="float32",
        ours=f"{ours / 1e6:.0f} MB",
        peer=f"{theirs / 1e6:.0f} MB",
        ratio=f"{ours / theirs:.2f} of the peer's",
    )


def peak_bytes(name: str, frames: int, side: int, device: torch.device) -> int:
    """Most bytes that encode plus decode holds above what was held before."""
    model = random_model()
    if name == "diffusers":
        encode, decode = passes_of_peer(diffusers_of(model).to(device))
    else:
        folded = model.to(device).fold()
        encode, decode = folded.encode_raw, folded.decode_raw
    del model
    clip = random_clip(frames, side, torch.float32, device)
    with torch.inference_mode():
        decode(encode(random_clip(1, 32, torch.float32, device)))
        cost = measure({name: lambda: decode(encode(clip))}, repeat=1, device=device)[name]
    if cost.bytes is None:
        raise SystemExit("this system does not tell the peak memory of a process")
    return cost.bytes


def against_cogvideox(frames: int, side: int, device: torch.device) -> Row:
    """The comparison of the paper: CogVideoX's autoencoder, one pass each after none, as it takes minutes on a CPU."""
    folded = random_model().to(device).fold()
    encode, decode = passes_of_peer(AutoencoderKLCogVideoX().eval().to(device))
    clip = random_clip(frames, side, torch.float32, device)
    with torch.inference_mode():
        runs = {"peer": lambda: decode(encode(clip)), "ours": lambda: folded.decode_raw(folded.encode_raw(clip))}
        costs = measure(runs, repeat=1 if device.type == "cpu" else 3, device=device)
    ours, theirs = costs["ours"].seconds, costs["peer"].seconds
    return Row(
        what="encode + decode, folded / diffusers CogVideoX",
        shape=f"{frames}x{side}x{side}",
        dtype="float32",
        ours=f"{ours:.3f} s",
        peer=f"{theirs:.3f} s",
        ratio=speed(ours, theirs),
    )


def against_one_pass(device: torch.device, side: int, repeat: int) -> Iterator[Row]:
    """What the stream costs beside the clip in one piece."""
    for name in ("nano-cv4x8x8", "nano-dv4x8x8"):
        folded = load(name, device=device).fold()
        clip = random_clip(33, side, torch.float32, device)

        def streamed(folded: CausalTokenizer = folded, clip: Tensor = clip) -> Tensor:
            encoder, decoder = folded.stream_encoder(), folded.stream_decoder()
            tokens = [encoder.push(piece) for piece in clip.split([1, *[folded.geometry.temporal] * 8], dim=2)]
            return torch.cat([decoder.push(piece) for piece in tokens], dim=2)

        def whole(folded: CausalTokenizer = folded, clip: Tensor = clip) -> Tensor:
            return folded.decode(folded.encode(clip))

        costs = measure({"stream": streamed, "whole": whole}, repeat=repeat, device=device)
        apart = float((streamed() - whole()).abs().max())
        yield Row(
            what=f"{name}, stream / one piece (differ by {apart:.0e})",
            shape=f"33x{side}x{side}",
            dtype="float32",
            ours=f"{costs['stream'].seconds:.3f} s",
            peer=f"{costs['whole'].seconds:.3f} s",
            ratio=speed(costs["stream"].seconds, costs["whole"].seconds),
        )


def approximations(path: str, device: torch.device) -> Iterator[Row]:
    """PSNR of real footage with a bounded window and with tiles, beside the exact result; tiles against it, too."""
    frames = read_video(path).frames[:193]
    clip = to_clip(frames, device)
    for name in ("nano-cv4x8x8", "nano-dv4x8x8"):
        folded = load(name, device=device).fold()

        def result(
            count: int, *, window: int | None = None, tiles: Tiles | None = None, folded: CausalTokenizer = folded
        ) -> Iterator[Tensor]:
            encoder = folded.stream_encoder(window=window, tiles=tiles)
            decoder = folded.stream_decoder(size=(clip.shape[3], clip.shape[4]), window=window, tiles=tiles)
            for piece in pieces_of(clip, count):
                yield decoder.push(encoder.push(piece))

        shape = "x".join(map(str, (len(frames), *frames.shape[1:3])))
        exact, _ = apart(result(len(frames)), pieces_of(clip, len(frames)))
        for window in (4, 16):
            got, _ = apart(result(len(frames), window=window), pieces_of(clip, len(frames)))
            yield Row(
                what=f"{name}, window of {window} latent frames / all {(len(frames) - 1) // 4 + 1}",
                shape=shape,
                dtype="float32",
                ours=f"{got:.3f} dB",
                peer=f"{exact:.3f} dB",
                ratio=f"{got - exact:+.3f} dB",
            )
        whole = list(result(17))
        exact, _ = apart(whole, pieces_of(clip, 17))
        for size, overlap in ((128, 32), (256, 64)):
            tiled = list(result(17, tiles=Tiles(size=size, overlap=overlap)))
            got, _ = apart(tiled, pieces_of(clip, 17))
            between, largest = apart(tiled, whole)
            what, shape = (
                f"{name}, tiles of {size} that overlap by {overlap}",
                "x".join(map(str, (17, *frames.shape[1:3]))),
            )
            yield Row(
                what=f"{what} / whole frames",
                shape=shape,
                dtype="float32",
                ours=f"{got:.3f} dB",
                peer=f"{exact:.3f} dB",
                ratio=f"{got - exact:+.3f} dB",
            )
            yield Row(
                what=f"{what}, beside whole frames",
                shape=shape,
                dtype="float32",
                ours=f"{between:.3f} dB",
                peer="inf dB",
                ratio=f"differ by {largest:.1e} at most",
            )


def pieces_of(clip: Tensor, count: int) -> Iterable[Tensor]:
    """The first frames of a clip as a 4x stream takes them."""
    return clip[:, :, :count].split([1, *[4] * ((count - 1) // 4)], dim=2)


def apart(clip: Iterable[Tensor], other: Iterable[Tensor]) -> tuple[float, float]:
    """PSNR of two clips in [-1, 1] that come in the same pieces, and their largest difference."""
    total, count, largest = 0.0, 0, 0.0
    for one, two in zip(clip, other, strict=True):
        error = (one - two).double()
        total, count = total + float(error.square().sum()), count + error.numel()
        largest = max(largest, float(error.abs().max()))
    return (10 * math.log10(4 * count / total) if total else math.inf), largest


if __name__ == "__main__":
    main()
