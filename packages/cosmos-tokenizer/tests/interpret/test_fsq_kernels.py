"""The FSQ kernels in Triton's interpreter: the indices, codes and gradients of the reference."""

import math
import os

import pytest
import torch
from torch import Tensor

from cosmos_tokenizer import fsq
from cosmos_tokenizer.presets import FSQ_LEVELS

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1: nox -s interpret"
)
triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


@triton.jit
def rounding_kernel(x_ptr, out_ptr, ROUND: tl.constexpr) -> None:
    at = tl.arange(0, 8)
    tl.store(out_ptr + at, ROUND(tl.load(x_ptr + at)))


def latents(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))).to(dtype)


def to_nearest_boundary(z: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Distance of the bounded latent, in float64, to the next value that rounds the other way."""
    columns = []
    for channel, n in enumerate(levels):
        half = (n - 1) * 1.001 / 2
        offset = 0.5 if n % 2 == 0 else 0.0
        bounded = torch.tanh(z[:, channel].double() + math.atanh(offset / half)) * half - offset
        columns.append((bounded - bounded.floor() - 0.5).abs())
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("levels", [FSQ_LEVELS, (7, 3, 2), (16,)])
@pytest.mark.parametrize("shape", [(2, 3, 17, 20), (1, 1, 1, 1), (3, 1, 5, 7)])
def test_indices_and_codes_are_those_of_the_reference(levels: tuple[int, ...], shape: tuple[int, ...]) -> None:
    z = latents(shape[0], len(levels), *shape[1:])
    codes, indices = fsq.codes_and_indices(z, levels, backend="triton")
    expected_codes, expected = fsq.codes_and_indices(z, levels, backend="reference")
    assert indices.dtype == torch.int32
    assert torch.equal(indices, expected)
    assert torch.equal(codes, expected_codes)
    assert torch.equal(codes, fsq.quantize(z, levels, backend="triton"))


def test_codes_differ_only_next_to_a_rounding_boundary() -> None:
    # Latents in steps of an ulp around each boundary of 8 levels, where the last bit of tanh decides.
    half, offset = 7 * 1.001 / 2, 0.5
    cuts = [math.atanh((k + 0.5 + offset) / half) - math.atanh(offset / half) for k in range(-4, 3)]
    z = torch.tensor(cuts).view(1, 1, 1, 7, 1) + torch.arange(-64, 64) * 2**-24
    kernel = fsq.quantize(z, (8,), backend="triton")
    differs = kernel != fsq.quantize(z, (8,), backend="reference")
    # Three ulps of the largest bounded latent, 4.
    assert (to_nearest_boundary(z, (8,))[differs] < 3 * 2**-22).all()
    assert kernel.unique().numel() == 8


def test_ties_round_to_even() -> None:
    from cosmos_tokenizer.fsq_triton import _round

    ties = torch.tensor([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    out = torch.empty_like(ties)
    rounding_kernel[(1,)](ties, out, ROUND=_round)
    assert torch.equal(out, ties.round())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_same_codes(dtype: torch.dtype) -> None:
    z = latents(1, 6, 2, 9, 4, dtype=dtype)
    codes, indices = fsq.codes_and_indices(z, FSQ_LEVELS, backend="triton")
    expected_codes, expected = fsq.codes_and_indices(z, FSQ_LEVELS, backend="reference")
    assert codes.dtype == dtype
    assert torch.equal(codes, expected_codes)
    assert torch.equal(indices, expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float16, 2**-10), (torch.bfloat16, 2**-7)]
)
def test_gradients_are_those_of_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    z = latents(2, 6, 1, 9, 4, dtype=dtype).requires_grad_()
    weights = latents(2, 6, 1, 9, 4, dtype=dtype).flip(0)
    kernel, reference = (
        torch.autograd.grad(fsq.quantize(z, FSQ_LEVELS, backend=backend), z, weights)[0]
        for backend in ("triton", "reference")
    )
    assert kernel.dtype == dtype
    # Where tanh saturates, 1 - tanh**2 loses its relative precision: an ulp of 1 times the gradient.
    torch.testing.assert_close(kernel, reference, rtol=tolerance, atol=4e-6)


def test_strides_are_free_and_codes_keep_channels_last() -> None:
    expected = fsq.quantize(latents(2, 6, 3, 5, 7), FSQ_LEVELS, backend="reference")
    channels_last = latents(2, 6, 3, 5, 7).movedim(1, -1).contiguous().movedim(-1, 1)
    frames_first = latents(2, 6, 3, 5, 7).transpose(1, 2).contiguous().transpose(1, 2)
    every_other = latents(2, 6, 3, 5, 7).repeat_interleave(2, dim=-1)[..., ::2]
    for z in (channels_last, frames_first, every_other):
        codes, indices = fsq.codes_and_indices(z, FSQ_LEVELS, backend="triton")
        assert torch.equal(codes, expected)
        assert torch.equal(indices, fsq.indices_of(expected, FSQ_LEVELS))
    assert fsq.quantize(channels_last, FSQ_LEVELS, backend="triton").stride() == channels_last.stride()
    frames_first.requires_grad_()
    fsq.quantize(frames_first, FSQ_LEVELS, backend="triton").square().sum().backward()
    kernel = frames_first.grad
    frames_first.grad = None
    fsq.quantize(frames_first, FSQ_LEVELS, backend="reference").square().sum().backward()
    torch.testing.assert_close(kernel, frames_first.grad, rtol=2e-6, atol=4e-6)


def test_kernels_fill_their_outputs_and_nothing_else() -> None:
    from cosmos_tokenizer import fsq_triton

    z = latents(2, 6, 5)
    codes_memory = torch.full((4, 10, 9), float("nan"))
    codes = codes_memory[1:3, 2:8, 2:7]
    outside = torch.ones_like(codes_memory, dtype=torch.bool)
    outside[1:3, 2:8, 2:7] = False
    index_memory = torch.full((4, 5), -9, dtype=torch.int32)
    codes_memory[outside] = 7.0
    fsq_triton.quantize_into(codes, index_memory[1:3], z, FSQ_LEVELS)
    assert not codes.isnan().any()
    assert (codes_memory[outside] == 7.0).all()
    assert (index_memory[[0, 3]] == -9).all()
    assert (index_memory[1:3] >= 0).all()
    codes.fill_(float("nan"))
    fsq_triton.backward_into(codes, latents(2, 6, 5).flip(0), z, FSQ_LEVELS)
    assert not codes.isnan().any()
    assert (codes_memory[outside] == 7.0).all()


def test_an_empty_batch_stays_empty() -> None:
    codes, indices = fsq.codes_and_indices(latents(0, 6, 1, 2, 2), FSQ_LEVELS, backend="triton")
    assert codes.shape == (0, 6, 1, 2, 2)
    assert indices.shape == (0, 1, 2, 2)


def test_the_operators_keep_the_rules_of_torch_library() -> None:
    from cosmos_tokenizer import fsq_triton

    assert fsq_triton is not None
    z = latents(2, 6, 1, 3, 2).requires_grad_()
    torch.library.opcheck(torch.ops.cosmos_tokenizer.fsq, (z, list(FSQ_LEVELS)))
    channels_last = latents(2, 6, 2, 3, 2).movedim(1, -1).contiguous().movedim(-1, 1)
    torch.library.opcheck(torch.ops.cosmos_tokenizer.fsq, (channels_last, list(FSQ_LEVELS)))
    torch.library.opcheck(torch.ops.cosmos_tokenizer.fsq_backward, (z.detach(), z.detach(), list(FSQ_LEVELS)))


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_torch_compiles_it_in_one_graph() -> None:
    def loss(z: Tensor) -> Tensor:
        return fsq.quantize(z, FSQ_LEVELS, backend="triton").square()

    z = latents(1, 6, 1, 2, 3)
    given, same = z.clone().requires_grad_(), z.clone().requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(given)
    assert torch.equal(compiled, loss(z))
    compiled.sum().backward()
    loss(same).sum().backward()
    assert torch.equal(given.grad, same.grad)
