"""What only a GPU can show: that it computes what the CPU does, and that attention keeps no table of scores there."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn

from cosmos_tokenizer import load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DEVICE = "cuda"
SHIPPED = ("nano-cv4x8x8", "nano-dv4x8x8", "nano-cv8x8x8", "nano-dv8x16x16")


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Without TF32, whose 10 bits of mantissa would hide a real difference."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    with torch.backends.cudnn.flags(allow_tf32=False), torch.inference_mode():
        yield
    matmul.allow_tf32 = before


def panned_photograph() -> Tensor:
    """Five frames of 95x91, `1 3 T H W` in [-1, 1]."""
    photograph = data.astronaut()
    frames = np.stack([photograph[100:195, 180 + 2 * t : 271 + 2 * t] for t in range(5)])
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1


@pytest.mark.parametrize("name", SHIPPED)
def test_load_puts_every_weight_and_the_statistics_on_the_device(name: str) -> None:
    model = load(name, device=DEVICE)
    assert model.device.type == DEVICE
    assert {value.device.type for value in model.state_dict().values()} == {DEVICE}
    z = model.encode(panned_photograph().to(DEVICE))
    assert z.device.type == DEVICE
    if model.statistics is not None:
        assert model.denormalize(model.normalize(z)).device.type == DEVICE


@pytest.mark.parametrize("name", SHIPPED)
def test_both_halves_agree_with_the_cpu_in_float32(name: str) -> None:
    here, there = load(name), load(name, device=DEVICE)
    clip = panned_photograph()
    z, z_there = here.encode(clip), there.encode(clip.to(DEVICE)).cpu()
    if here.config.kind == "continuous":
        torch.testing.assert_close(z_there, z, atol=1e-3, rtol=1e-3)
    else:
        # A code on the edge between two levels may fall on either side.
        assert (z_there == z).float().mean() > 0.99
    size = clip.shape[-2:]
    out, out_there = (model.decode(z.to(model.device), frames=5, size=size).cpu() for model in (here, there))
    assert out_there.shape == clip.shape
    torch.testing.assert_close(out_there, out, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_bfloat16_reconstructs_about_what_float32_does(name: str) -> None:
    clip = panned_photograph()
    exact = load(name).reconstruct(clip)
    model = load(name, device=DEVICE, dtype=torch.bfloat16)
    close = model.reconstruct(clip.to(DEVICE)).cpu().float()
    assert close.shape == clip.shape
    assert (close - exact).abs().mean() < 0.03
    error, error_exact = ((out.clamp(-1, 1) - clip).square().mean() for out in (close, exact))
    assert error < 1.1 * error_exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_never_holds_the_scores_of_a_frame(dtype: torch.dtype) -> None:
    model = load("nano-cv4x8x8", device=DEVICE, dtype=dtype)
    frame = torch.rand(1, 3, 1, 512, 512, device=DEVICE) * 2 - 1
    model.reconstruct(frame)  # The workspaces of the libraries are not attention's: they are made here.
    before: dict[nn.Module, int] = {}
    used: list[int] = []

    def starts(module: nn.Module, *_: object) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before[module] = torch.cuda.memory_allocated()

    def ends(module: nn.Module, *_: object) -> None:
        torch.cuda.synchronize()
        used.append(torch.cuda.max_memory_allocated() - before[module])

    attentions = [m for m in model.modules() if all(hasattr(m, name) for name in ("q", "k", "v", "proj"))]
    for module in attentions:
        module.register_forward_pre_hook(starts)
        module.register_forward_hook(ends)
    model.reconstruct(frame)

    pixels, channels = (512 // 8) ** 2, model.config.widths[-1]
    scores = pixels**2 * dtype.itemsize
    rows = pixels * channels * dtype.itemsize
    # Norm, q, k, v, what they are copied to, the result and its projection: each is one row of channels a pixel.
    assert 12 * rows < scores
    assert len(used) == len(attentions) >= 2
    assert max(used) < 12 * rows
