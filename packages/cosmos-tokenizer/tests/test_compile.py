"""torch.compile of both halves without graph breaks, and streams that compile no more once they are under way.

On the CPU, and on a GPU (marked `gpu`), where the graphs hold the Triton kernels.

In a process of its own: pytest's option that checks shapes at run time wraps every function in what cannot be traced.
"""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, fsq, haar
from cosmos_tokenizer.layers import FrameNorm
from cosmos_tokenizer.presets import FSQ_LEVELS

TINY = replace(
    PRESETS["toy"],
    spatial_compression=4,
    temporal_compression=4,
    patch_size=2,
    channels=4,
    channel_multipliers=(1, 1),
    encoder_blocks=1,
    decoder_blocks=1,
    z_channels=4,
)


ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "backend", "device"),
    [
        ("trained", "eager", "cpu"),
        ("folded", "eager", "cpu"),
        ("folded", "inductor", "cpu"),
        pytest.param("folded", "inductor", "cuda", marks=ON_GPU),
        ("operations", "eager", "cpu"),
        pytest.param("operations", "inductor", "cuda", marks=ON_GPU),
    ],
)
def test_graphs_are_whole_and_streams_are_compiled_once(form: str, backend: str, device: str) -> None:
    if (backend, device) == ("inductor", "cpu") and shutil.which("g++") is None:
        pytest.skip("torch's inductor needs g++ on a CPU")
    command = [sys.executable, *(["-W", "error"] if backend == "eager" else []), __file__, form, backend, device]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-3000:]
    assert device == "cuda" or found.stderr == ""  # inductor has advice for users of GPUs


def streamed(model: CausalTokenizer, video: torch.Tensor, piece: int) -> list[torch.Tensor]:
    """Latents and clip of a video that comes in pieces of ``piece`` frames after the first."""
    encoder, decoder = model.stream_encoder(window=2), model.stream_decoder(window=2)
    found = []
    for part in [video[:, :, :1], *video[:, :, 1:].split(piece, dim=2)]:
        latents = encoder.push(part)
        found += [] if latents is None else [latents, decoder.push(latents)]
    return found


def check(form: str, backend: str, device: str) -> None:
    """Compile both halves with breaks forbidden, and compare streams with eager ones, then with compiling forbidden."""
    torch.manual_seed(0)
    model = CausalTokenizer(TINY).eval().to(device)
    model = model.fold() if form == "folded" else model
    video = (torch.rand(1, 3, 17, 16, 24) * 2 - 1).to(device)
    wanted = streamed(model, video, 4), streamed(model, video, 3)
    fingerprint = model.fingerprint
    model.encoder.compile(fullgraph=True, backend=backend)
    model.decoder.compile(fullgraph=True, backend=backend)
    first = streamed(model, video, 4)
    with torch.compiler.set_stance("fail_on_recompile"):
        again, uneven = streamed(model, video, 4), streamed(model, video, 3)
    for got, target in ((first, wanted[0]), (again, wanted[0]), (uneven, wanted[1])):
        for one, other in zip(got, target, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5 * max(1, float(other.abs().max())), rtol=0)
    assert model.fingerprint == fingerprint


@torch.no_grad()
def check_operations(backend: str, device: str) -> None:
    """Compile the wavelet, the quantiser and a norm layer with breaks forbidden, and compare them with eager ones."""
    layer = FrameNorm(1, 96).to(device)

    def run(x: torch.Tensor, z: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = haar.patch(x, patch_size=4, media="video")
        back = haar.unpatch(2 * y, patch_size=4, media="video")
        return back, fsq.quantize(z, FSQ_LEVELS), layer.silu(layer(h).flatten(0, 1))

    x, z = torch.randn(1, 3, 9, 64, 64, device=device), torch.randn(1, 6, 2, 8, 8, device=device)
    h = torch.randn(1, 3, 9, 11, 96, device=device).movedim(-1, 2)
    compiled = torch.compile(run, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x, z, h), run(x, z, h), rtol=0, atol=0)


if __name__ == "__main__":
    torch.backends.cudnn.allow_tf32 = False  # 10 bits of mantissa would hide a real difference
    what, *where = sys.argv[1:]
    check_operations(*where) if what == "operations" else check(what, *where)
