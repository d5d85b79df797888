"""torch.compile of both halves without graph breaks, and streams that compile no more once they are under way.

In a process of its own: pytest's option that checks shapes at run time wraps every function in what cannot be traced.
"""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer

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


@pytest.mark.slow
@pytest.mark.parametrize(("form", "backend"), [("trained", "eager"), ("folded", "eager"), ("folded", "inductor")])
def test_streams_are_compiled_whole_and_once(form: str, backend: str) -> None:
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("torch's inductor needs g++ on a CPU")
    command = [sys.executable, *(["-W", "error"] if backend == "eager" else []), __file__, form, backend]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (found.returncode, found.stderr[-3000:]) == (0, "")


def streamed(model: CausalTokenizer, video: torch.Tensor, piece: int) -> list[torch.Tensor]:
    """Latents and clip of a video that comes in pieces of ``piece`` frames after the first."""
    encoder, decoder = model.stream_encoder(window=2), model.stream_decoder(window=2)
    found = []
    for part in [video[:, :, :1], *video[:, :, 1:].split(piece, dim=2)]:
        latents = encoder.push(part)
        found += [] if latents is None else [latents, decoder.push(latents)]
    return found


def check(form: str, backend: str) -> None:
    """Compile both halves with breaks forbidden, and compare streams with eager ones, then with compiling forbidden."""
    torch.manual_seed(0)
    model = CausalTokenizer(TINY).eval()
    model = model.fold() if form == "folded" else model
    video = torch.rand(1, 3, 17, 16, 24) * 2 - 1
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


if __name__ == "__main__":
    check(*sys.argv[1:])
