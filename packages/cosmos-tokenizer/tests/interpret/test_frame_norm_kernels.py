"""The norm kernels in Triton's interpreter: the values of float64, whatever the size, the mean and the layout."""

import os

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_tokenizer.frame_norm import norm_silu

pytestmark = [
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1: nox -s interpret"),
    # exp(-y) is infinite for a y below -88, whose SiLU is zero.
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),
]
pytest.importorskip("triton")

EPS = 1e-6


def frames(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x.to(dtype, memory_format=torch.channels_last)


def affine(channels: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(2, channels, generator=generator).to(dtype)
    return weight, bias


def kernel(x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool = False, groups: int = 1) -> Tensor:
    return norm_silu(x, weight, bias, groups=groups, eps=EPS, silu=silu, backend="triton")


def reference(x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool = False, groups: int = 1) -> Tensor:
    return norm_silu(x, weight, bias, groups=groups, eps=EPS, silu=silu, backend="reference")


def exact(x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool = False) -> Tensor:
    """In float64 and straight from the definition: torch's own norm of channels-last frames subtracts large squares."""
    x, weight, bias = (t.double() for t in (x, weight[:, None, None], bias[:, None, None]))
    variance, mean = torch.var_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    y = (x - mean) / (variance + EPS).sqrt() * weight + bias
    return F.silu(y) if silu else y


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small frames fill many tiles and three chunks."""
    from cosmos_tokenizer import frame_norm_triton

    monkeypatch.setattr(frame_norm_triton, "BLOCK", 128)
    monkeypatch.setattr(frame_norm_triton, "MOST_CHUNKS", 4)


# One tile and part of a second; channels that are no power of two; frames of less than a tile, and of one pixel.
SHAPES = [(2, 48, 13, 17), (1, 256, 5, 7), (3, 96, 2, 3), (2, 27, 3, 5), (1, 1, 4, 9), (2, 512, 1, 1), (2, 2, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("silu", [False, True])
def test_the_kernel_is_the_reference(shape: tuple[int, ...], silu: bool) -> None:
    x, parameters = frames(*shape), affine(shape[1])
    y = kernel(x, *parameters, silu=silu)
    torch.testing.assert_close(y, reference(x, *parameters, silu=silu), rtol=2e-6, atol=4e-6)
    torch.testing.assert_close(y.double(), exact(x, *parameters, silu=silu), rtol=2e-6, atol=2e-6)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(2, 48, 3, 9), (1, 96, 5, 4), (2, 27, 3, 5), (2, 7, 1, 1)])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.usefixtures("small_tiles")
def test_chunks_of_several_tiles_are_merged(shape: tuple[int, ...], silu: bool) -> None:
    x, parameters = frames(*shape), affine(shape[1])
    # Each row of pixels on its own level, so that no two chunks have the same mean.
    x += torch.arange(shape[2])[:, None]
    torch.testing.assert_close(
        kernel(x, *parameters, silu=silu).double(), exact(x, *parameters, silu=silu), rtol=2e-6, atol=4e-6
    )


def test_a_frame_is_cut_into_few_chunks_none_of_them_empty() -> None:
    from cosmos_tokenizer.frame_norm_triton import BLOCK, MOST_CHUNKS, partition

    for length in (1, BLOCK, BLOCK + 1, MOST_CHUNKS * BLOCK, MOST_CHUNKS * BLOCK + 1, 28_800_000, 29_000_001, 2**33):
        chunks, tiles = partition(length)
        assert chunks <= MOST_CHUNKS
        assert (chunks - 1) * tiles * BLOCK < length <= chunks * tiles * BLOCK
        assert tiles == 1 or length > (tiles - 1) * MOST_CHUNKS * BLOCK


@pytest.mark.parametrize(("dtype", "ulp"), [(torch.float32, 2**-20), (torch.float16, 2**-11), (torch.bfloat16, 2**-7)])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.usefixtures("small_tiles")
def test_results_are_rounded_once_to_their_dtype(dtype: torch.dtype, ulp: float, silu: bool) -> None:
    x, (weight, bias) = frames(2, 24, 5, 3, dtype=dtype), affine(24, dtype)
    y = kernel(x, weight, bias, silu=silu)
    assert y.dtype == dtype
    # The interpreter cuts a bfloat16 off where a GPU rounds it.
    torch.testing.assert_close(y.double(), exact(x, weight, bias, silu=silu), rtol=ulp, atol=2e-6)
    wide = kernel(x, weight.float(), bias.float(), silu=silu)
    assert torch.equal(wide, y)


@pytest.mark.usefixtures("small_tiles")
def test_a_large_mean_leaves_a_small_variance_exact() -> None:
    x = 1000 + frames(2, 48, 5, 3) / 100
    y, expected = (f(x, torch.ones(48), torch.zeros(48)).double() for f in (kernel, exact))
    # The last bit of a mean is 2**-14, 0.6 % of the deviation: that is lost, and of the variance its square.
    torch.testing.assert_close(y, expected, rtol=0, atol=6e-3)
    torch.testing.assert_close(y.std(dim=(1, 2, 3)), expected.std(dim=(1, 2, 3)), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("small_tiles")
def test_constant_channels_of_a_hundred_cost_the_others_nothing() -> None:
    x, parameters = frames(1, 48, 5, 3), affine(48)
    x[:, 3], x[:, 40] = 100.0, -100.0
    torch.testing.assert_close(kernel(x, *parameters).double(), exact(x, *parameters), rtol=4e-7, atol=4e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, -100.3, 12345.678])
@pytest.mark.usefixtures("small_tiles")
def test_a_constant_frame_becomes_its_bias(value: float) -> None:
    weight, bias = affine(6)
    y = kernel(torch.full((1, 6, 9, 11), value).to(memory_format=torch.channels_last), weight, bias)
    assert torch.equal(y, bias[:, None, None].expand_as(y))


@pytest.mark.usefixtures("small_tiles")
def test_a_frame_gives_the_same_bits_alone_as_among_others() -> None:
    x, parameters = frames(4, 48, 3, 7), affine(48)
    together = kernel(x, *parameters, silu=True)
    for n in range(4):
        assert torch.equal(kernel(x[n : n + 1], *parameters, silu=True), together[n : n + 1])


@pytest.mark.parametrize("shape", [(2, 48, 3, 3), (3, 5, 7, 9)])
@pytest.mark.usefixtures("small_tiles")
def test_kernels_fill_their_output_and_nothing_else(shape: tuple[int, ...]) -> None:
    from cosmos_tokenizer import frame_norm_triton

    n, c, h, w = shape
    size = n * c * h * w
    memory = torch.full((size + 200,), 7.0)
    memory[100 : 100 + size] = float("nan")
    y = memory[100 : 100 + size].view(n, h, w, c).movedim(-1, 1)
    # Frames in the midst of NaN: whoever reads past their end makes NaN of them too.
    poison = torch.full((size + 400,), float("nan"))
    x = poison[200 : 200 + size].view(n, h, w, c).movedim(-1, 1).copy_(frames(*shape))
    frame_norm_triton.norm_silu_into(y, x, *affine(c), eps=EPS, silu=True)
    assert not y.isnan().any()
    assert (memory[:100] == 7.0).all()
    assert (memory[100 + size :] == 7.0).all()


def test_what_the_kernel_does_not_do_goes_to_the_reference() -> None:
    def operators(x: Tensor, weight: Tensor, bias: Tensor, groups: int = 1) -> bool:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            y = kernel(x, weight, bias, groups=groups, silu=True)
        # Bit for bit, which the kernel is not.
        assert torch.equal(y, reference(x, weight, bias, groups=groups, silu=True))
        return "cosmos_tokenizer::frame_norm" in {event.name for event in profile.events()}

    x, (weight, bias) = frames(2, 6, 5, 7), affine(6)
    assert not operators(x, weight, bias, groups=3)
    assert not operators(x.contiguous(), weight, bias)
    assert not operators(frames(2, 6, 5, 14)[..., ::2], weight, bias)
    assert not operators(frames(2, 12, 5, 7)[:, ::2], weight, bias)
    for wanting in range(3):
        given = [x.clone(), weight.clone(), bias.clone()]
        given[wanting].requires_grad_()
        assert not operators(*given)
        with torch.no_grad():
            names = torch.ops.cosmos_tokenizer.frame_norm(*given, EPS, True)
            assert torch.equal(kernel(*given, silu=True), names)


def test_every_other_weight_is_read_where_it_lies() -> None:
    x, (weight, bias) = frames(1, 6, 2, 3), affine(6)
    apart = weight.repeat_interleave(2)[::2], bias.repeat_interleave(2)[::2]
    assert torch.equal(kernel(x, *apart), kernel(x, weight, bias))


def test_an_empty_batch_stays_empty() -> None:
    assert kernel(frames(0, 6, 2, 3), *affine(6), silu=True).shape == (0, 6, 2, 3)


@pytest.mark.parametrize("silu", [False, True])
def test_the_operator_keeps_the_rules_of_torch_library(silu: bool) -> None:
    from cosmos_tokenizer import frame_norm_triton

    assert frame_norm_triton is not None
    operator = torch.ops.cosmos_tokenizer.frame_norm
    torch.library.opcheck(operator, (frames(2, 6, 3, 5), *affine(6), EPS, silu))
    rows_first = frames(2, 6, 3, 5).contiguous()
    torch.library.opcheck(operator, (rows_first, *affine(6), EPS, silu))
    assert torch.equal(operator(rows_first, *affine(6), EPS, silu), operator(frames(2, 6, 3, 5), *affine(6), EPS, silu))


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("backend", ["triton", "auto"])
def test_torch_compiles_it_in_one_graph(backend: str) -> None:
    def twice(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        h = norm_silu(x, weight, bias, groups=1, eps=EPS, silu=True, backend=backend)
        return norm_silu(2 * h, weight, bias, groups=1, eps=EPS, silu=False, backend=backend)

    x, parameters = frames(1, 6, 3, 5), affine(6)
    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, *parameters), twice(x, *parameters), rtol=0, atol=0)
    asking = x.clone().requires_grad_()
    compiled(asking, *parameters).square().sum().backward()
    assert asking.grad.isfinite().all()
