"""The Haar kernels in Triton's interpreter: equal to the reference, both ways, whatever the size and the layout."""

import os

import pytest
import torch
from torch import Tensor

from cosmos_tokenizer import haar

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1: nox -s interpret"
)
pytest.importorskip("triton")

CASES = [("video", 2), ("video", 4), ("image", 2), ("image", 4)]
# Sides of 6 are odd at the second level of a patch of 4, 7 and 9 at the first, 5 at both; 33 patches fill two programs.
SHAPES = [
    ("video", 2, (2, 3, 3, 2, 4), True),
    ("video", 2, (1, 3, 2, 5, 3), True),
    ("video", 2, (1, 1, 4, 2, 258), False),
    ("video", 4, (1, 3, 1, 4, 8), True),
    ("video", 4, (2, 1, 5, 4, 4), True),
    ("video", 4, (1, 5, 1, 3, 4), True),
    ("video", 4, (1, 3, 1, 6, 7), True),
    ("video", 4, (1, 3, 2, 4, 5), True),
    ("video", 4, (1, 3, 3, 4, 9), True),
    ("video", 4, (1, 2, 4, 4, 132), False),
    ("image", 2, (2, 3, 1, 4, 6), True),
    ("image", 2, (1, 3, 2, 3, 5), True),
    ("image", 4, (2, 3, 1, 8, 4), True),
    ("image", 4, (1, 3, 1, 6, 260), True),
]


def clip(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize(("media", "patch_size", "shape", "start"), SHAPES)
def test_patch_is_the_reference_bit_for_bit(media: str, patch_size: int, shape: tuple[int, ...], start: bool) -> None:
    x = clip(*shape)
    options = {"patch_size": patch_size, "media": media, "start": start}
    kernel = haar.patch(x, **options, backend="triton")
    reference = haar.patch(x, **options, backend="reference")
    assert torch.equal(kernel, reference)
    assert kernel.movedim(1, -1).is_contiguous()
    assert reference.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize(("media", "patch_size", "shape", "start"), SHAPES)
def test_unpatch_is_the_reference_bit_for_bit(media: str, patch_size: int, shape: tuple[int, ...], start: bool) -> None:
    options = {"patch_size": patch_size, "media": media, "start": start}
    y = haar.patch(clip(*shape), **options)
    kernel = haar.unpatch(y, **options, backend="triton")
    assert torch.equal(kernel, haar.unpatch(y, **options, backend="reference"))
    assert kernel.is_contiguous()


@pytest.mark.parametrize(("media", "patch_size", "shape", "start"), SHAPES)
def test_gradients_are_those_of_the_reference(media: str, patch_size: int, shape: tuple[int, ...], start: bool) -> None:
    options = {"patch_size": patch_size, "media": media, "start": start}
    x = clip(*shape).requires_grad_()
    for operation in (haar.patch, haar.unpatch):
        outputs = [operation(x, **options, backend=backend) for backend in ("triton", "reference")]
        weights = clip(*outputs[0].shape).flip(0, 2, 4)
        kernel, reference = (torch.autograd.grad(output, x, weights)[0] for output in outputs)
        # The gradient of a reflected or a repeated sample is a sum, whose order is free.
        torch.testing.assert_close(kernel, reference, rtol=1e-6, atol=1e-6)
        x = outputs[0].detach().requires_grad_()


@pytest.mark.parametrize(("media", "patch_size"), CASES)
@pytest.mark.parametrize(("dtype", "ulp"), [(torch.float16, 0), (torch.bfloat16, 2**-7)])
def test_half_precision_is_computed_in_float32(media: str, patch_size: int, dtype: torch.dtype, ulp: float) -> None:
    x = clip(1, 3, 1, patch_size, 2 * patch_size, dtype=dtype)
    options = {"patch_size": patch_size, "media": media}
    y, expected = (haar.patch(x, **options, backend=backend) for backend in ("triton", "reference"))
    assert y.dtype == dtype
    # The interpreter cuts a bfloat16 off where a GPU rounds it.
    torch.testing.assert_close(y, expected, rtol=ulp, atol=0)
    back, expected = (haar.unpatch(expected, **options, backend=backend) for backend in ("triton", "reference"))
    assert back.dtype == dtype
    torch.testing.assert_close(back, expected, rtol=ulp, atol=0)


@pytest.mark.parametrize(("media", "patch_size"), CASES)
def test_strides_are_free(media: str, patch_size: int) -> None:
    options = {"patch_size": patch_size, "media": media}
    frames_last = clip(2 * patch_size, 2 * patch_size, 2, 3, 3).permute(4, 3, 2, 0, 1)[1:, :, ::2]
    channels_last = clip(1, 1, 2 * patch_size, 2 * patch_size, 3).movedim(-1, 1)
    for x in (frames_last, channels_last):
        y = haar.patch(x, **options, backend="triton")
        assert torch.equal(y, haar.patch(x.contiguous(), **options, backend="reference"))
        expected = haar.unpatch(y, **options, backend="reference")
        assert torch.equal(haar.unpatch(y.contiguous(), **options, backend="triton"), expected)


def inside_poison(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """A tensor of NaN with margins around each of its rows, what it lies in, and where that is not its."""
    memory = torch.full([n + 4 for n in shape], 7.0)
    window = tuple(slice(3, 3 + n) for n in shape)
    memory[window] = float("nan")
    return memory[window], memory, ~memory.isnan()


@pytest.mark.parametrize(
    ("media", "patch_size", "lead"),
    [(*case, lead) for case in CASES for lead in ("repeat", "zero", "none") if case[0] == "video" or lead == "none"],
)
def test_analysis_fills_its_output_and_nothing_else(media: str, patch_size: int, lead: str) -> None:
    from cosmos_tokenizer import haar_triton

    axes = 3 if media == "video" else 2
    frames = patch_size if axes == 3 and lead == "none" else 1
    y, memory, mask = inside_poison(1, 3 * patch_size**axes, 1, 1, 3)
    x = clip(1, 3, frames, patch_size, 3 * patch_size)
    haar_triton.analyse_into(y, x, patch_size=patch_size, axes=axes, lead=lead, scale=1.0)
    assert not y.isnan().any()
    assert (memory[mask] == 7.0).all()


@pytest.mark.parametrize(
    ("media", "patch_size", "lead"),
    [(*case, lead) for case in CASES for lead in ("sum", "drop", "none") if case[0] == "video" or lead == "none"],
)
def test_synthesis_fills_its_output_and_nothing_else(media: str, patch_size: int, lead: str) -> None:
    from cosmos_tokenizer import haar_triton

    axes = 3 if media == "video" else 2
    frames = patch_size if axes == 3 and lead == "none" else 1
    x, memory, mask = inside_poison(1, 3, frames, patch_size, 3 * patch_size)
    y = clip(1, 3 * patch_size**axes, 1, 1, 3)
    haar_triton.synthesise_into(x, y, patch_size=patch_size, axes=axes, lead=lead, scale=1.0)
    assert not x.isnan().any()
    assert (memory[mask] == 7.0).all()


def test_an_empty_batch_stays_empty() -> None:
    y = haar.patch(clip(0, 3, 5, 8, 8), patch_size=4, media="video", backend="triton")
    assert y.shape == (0, 192, 2, 2, 2)
    assert haar.unpatch(y, patch_size=4, media="video", backend="triton").shape == (0, 3, 5, 8, 8)


@pytest.mark.parametrize(("x", "lead"), [(clip(1, 3, 1, 2, 3), "repeat"), (clip(1, 3, 2, 2, 2), "none")])
def test_the_operators_keep_the_rules_of_torch_library(x: Tensor, lead: str) -> None:
    from cosmos_tokenizer import haar_operators

    analyse, synthesise = torch.ops.cosmos_tokenizer.haar_analyse, torch.ops.cosmos_tokenizer.haar_synthesise
    assert haar_operators is not None
    torch.library.opcheck(analyse, (x.requires_grad_(), 2, 3, lead, 0.125))
    y = analyse(x, 2, 3, lead, 0.125).detach().requires_grad_()
    adjoint = {"repeat": "sum", "none": "none"}[lead]
    torch.library.opcheck(synthesise, (y, 2, 3, adjoint, 0.125, *x.shape[2:]))


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("backend", ["triton", "auto"])
def test_torch_compiles_them_in_one_graph(backend: str) -> None:
    def there_and_back(x: Tensor) -> Tensor:
        y = haar.patch(x, patch_size=2, media="video", backend=backend)
        return haar.unpatch(2 * y, patch_size=2, media="video", backend=backend)

    x = clip(1, 3, 1, 2, 4)
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    given, same = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(compiled(given), 2 * x)
    compiled(given).square().sum().backward()
    there_and_back(same).square().sum().backward()
    torch.testing.assert_close(given.grad, same.grad)
