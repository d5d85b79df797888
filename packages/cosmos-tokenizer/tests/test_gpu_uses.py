"""What users run on a GPU (marked `gpu`): folded nets, streams, exported files; run on the CPU too, as a check of them.

`test_compile` has the compiled nets.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, export, load

pytestmark = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ],
)
SHIPPED = ("nano-cv4x8x8", "nano-dv4x8x8", "nano-cv8x8x8", "nano-dv8x16x16")
# One group of the norm, as its kernel wants.
TINY = replace(PRESETS["toy"], temporal_compression=4, spatial_compression=4, channel_multipliers=(1,), norm_groups=1)


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Without TF32, whose 10 bits of mantissa would hide a real difference."""
    with torch.backends.cudnn.flags(allow_tf32=False), torch.no_grad():
        yield


def clip(device: str, frames: int = 13) -> torch.Tensor:
    values = torch.rand(1, 3, frames, 40, 56, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool3d(values, (1, 9, 9), stride=1, padding=(0, 4, 4))
    return (smooth * 4 - 2).clamp(-1, 1).to(device)


def agree(tokens: torch.Tensor, expected: torch.Tensor) -> None:
    """Latents up to rounding; of indices nearly all, as a code on the edge of two levels may fall on either side."""
    assert tokens.shape == expected.shape
    if tokens.is_floating_point():
        torch.testing.assert_close(tokens, expected, atol=1e-3, rtol=1e-3)
    else:
        assert (tokens == expected).float().mean() > 0.99


@pytest.mark.parametrize("name", SHIPPED)
def test_the_folded_net_is_the_trained_one(name: str, device: str) -> None:
    model, video = load(name, device=device), clip(device)
    folded = model.fold()
    assert {value.device.type for value in folded.parameters()} == {device}
    tokens = model.encode(video)
    agree(folded.encode(video), tokens)
    torch.testing.assert_close(folded.decode(tokens), model.decode(tokens), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["trained", "folded"])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("name", SHIPPED)
def test_streams_give_what_the_whole_clip_gives(name: str, window: int | None, form: str, device: str) -> None:
    model = load(name, device=device)
    frames = 1 + 3 * model.geometry.temporal
    video, model = clip(device, frames), model.fold() if form == "folded" else model
    tokens = model.encode(video)
    encoder, decoder = model.stream_encoder(window=window), model.stream_decoder(window=window)
    pushed = [encoder.push(piece) for piece in video.split([1, 3, 5, frames - 9], dim=2)]
    found = [piece for piece in pushed if piece is not None]
    assert encoder.flush() is None
    agree(torch.cat(found, dim=-3), tokens)
    decoded = torch.cat([decoder.push(piece) for piece in tokens.split([1, 2, 1], dim=-3)], dim=2)
    torch.testing.assert_close(decoded, model.decode(tokens), atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_exported_file_needs_nothing_of_this_package(
    part: str, suffix: str, device: str, random_tokenizer: Callable[..., CausalTokenizer], tmp_path: Path
) -> None:
    model = random_tokenizer(TINY).to(device)
    (path,) = export(model, tmp_path / f"half.{suffix}", part=part, frames=5, size=(32, 48))
    if suffix == "onnx":
        assert {node.domain for node in onnx.load(path).graph.node} <= {"", "pkg.onnxscript.torch_lib"}
        return
    program = torch.export.load(path)
    assert not [node for node in program.graph.nodes if str(node.target).startswith("cosmos_tokenizer")]
    video = clip(device, 5)[..., :32, :48]
    latents = model.encode(video)
    given, expected = (video, latents) if part == "encoder" else (latents, model.decode(latents))
    got = program.module()(given)
    torch.testing.assert_close(got, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
