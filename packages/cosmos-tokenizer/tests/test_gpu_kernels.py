"""On a GPU: the Haar, FSQ and norm kernels against plain torch on the same device, forward and backward.

`test_compile` has them compiled, in a process of its own.
"""

import pytest
import torch
from torch import Tensor

from cosmos_tokenizer import fsq, fsq_reference, haar
from cosmos_tokenizer.frame_norm import norm_silu
from cosmos_tokenizer.layers import FrameNorm
from cosmos_tokenizer.presets import FSQ_LEVELS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
CASES = [
    ("video", 4, (2, 3, 17, 64, 96), True),
    ("video", 4, (1, 3, 72, 45, 70), True),
    ("video", 4, (1, 3, 8, 36, 300), False),
    ("video", 2, (2, 3, 4, 31, 517), True),
    ("image", 4, (2, 3, 1, 70, 46), True),
    ("image", 2, (3, 5, 1, 33, 34), True),
]


def clip(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to("cuda", dtype)


@pytest.mark.parametrize(("media", "patch_size", "shape", "start"), CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_haar_is_the_reference_forward_and_backward(
    media: str, patch_size: int, shape: tuple[int, ...], start: bool, dtype: torch.dtype
) -> None:
    options = {"patch_size": patch_size, "media": media, "start": start}
    x = clip(*shape, dtype=dtype).requires_grad_()
    for operation in (haar.patch, haar.unpatch):
        kernel, reference = (operation(x, **options, backend=backend) for backend in ("triton", "reference"))
        assert torch.equal(kernel, reference)
        weights = torch.randn_like(reference)
        got, expected = (torch.autograd.grad(output, x, weights)[0] for output in (kernel, reference))
        # Sums of what was reflected or repeated are rounded to the dtype once here, at every addition there.
        tolerance = {torch.float32: 2e-6, torch.float16: 2**-8, torch.bfloat16: 2**-5}[dtype]
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        x = reference.detach().requires_grad_()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fsq_is_the_reference_forward_and_backward(dtype: torch.dtype) -> None:
    z = (2 * clip(2, 6, 7, 90, 160, dtype=dtype)).requires_grad_()
    codes, indices = fsq.codes_and_indices(z, FSQ_LEVELS, backend="triton")
    expected_codes, expected = fsq.codes_and_indices(z, FSQ_LEVELS, backend="reference")
    # The two tanh may differ in their last bit, which decides only next to a rounding boundary: three ulps of 4.
    bounded = fsq_reference._bound(z.detach().double(), FSQ_LEVELS)
    near = (bounded - bounded.floor() - 0.5).abs() < 3 * 2**-22
    assert torch.equal(codes[~near], expected_codes[~near])
    assert torch.equal(indices[~near.any(dim=1)], expected[~near.any(dim=1)])
    assert torch.equal(indices, fsq.indices_of(codes, FSQ_LEVELS))
    weights = torch.randn_like(z)
    got, wanted = (torch.autograd.grad(output, z, weights)[0] for output in (codes, expected_codes))
    tolerance = {torch.float32: 2e-6, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=4e-6)


def norm(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    return norm_silu(x, weight, bias, groups=1, eps=1e-6, silu=silu)


def norm_in_float64(x: Tensor, weight: Tensor, bias: Tensor, silu: bool) -> Tensor:
    x, weight, bias = (t.double() for t in (x, weight[:, None, None], bias[:, None, None]))
    variance, mean = torch.var_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    y = (x - mean) / (variance + 1e-6).sqrt() * weight + bias
    return torch.nn.functional.silu(y) if silu else y


# Part of a tile; several chunks; two tiles a chunk; widths that are no power of two, one of them without vectors.
@pytest.mark.parametrize(
    "shape", [(5, 512, 3, 5), (2, 256, 45, 79), (1, 96, 180, 320), (3, 48, 31, 17), (2, 27, 65, 63)]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("silu", [False, True])
def test_norm_is_the_reference_and_each_frame_its_own(shape: tuple[int, ...], dtype: torch.dtype, silu: bool) -> None:
    x = (3 * clip(*shape, dtype=dtype) + 1).contiguous(memory_format=torch.channels_last)
    parameters = clip(2, shape[1], dtype=dtype).unbind()
    y = norm(x, *parameters, silu)
    assert y.dtype == dtype
    assert y.stride() == x.stride()
    tolerance = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(y.double(), norm_in_float64(x, *parameters, silu), rtol=tolerance, atol=1e-5)
    reference = norm_silu(x, *parameters, groups=1, eps=1e-6, silu=silu, backend="reference")
    # That rounds to its dtype before SiLU too.
    torch.testing.assert_close(y, reference, rtol=4 * tolerance, atol=4 * tolerance)
    for n in range(shape[0]):
        assert torch.equal(norm(x[n : n + 1], *parameters, silu), y[n : n + 1])


def test_constant_channels_and_a_large_mean_cost_the_norm_nothing() -> None:
    x = clip(2, 256, 45, 80, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    parameters = clip(2, 256, dtype=torch.float32).unbind()
    # The last bit of a mean of 1000 is 2**-14, times 10 for the deviation of 0.1, times 4 for the largest weight.
    far = 1000 + x / 10
    x[:, 7], x[:, 200] = 100.0, -100.0
    for given, tolerance in ((x, 2e-6), (far, 40 * 2**-14)):
        y, expected = norm(given, *parameters, False), norm_in_float64(given, *parameters, False)
        torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_norm_layer_copies_nothing_and_learns() -> None:
    layer = FrameNorm(1, 96).cuda()
    x = clip(1, 3, 9, 11, 96, dtype=torch.float32).movedim(-1, 2)

    def both(x: Tensor) -> Tensor:
        return layer.silu(layer(x).flatten(0, 1))

    with torch.no_grad():
        operators = {event.name for event in record(lambda: both(x))}
        assert "cosmos_tokenizer::frame_norm" in operators
        assert not {"aten::native_group_norm", "aten::silu_", "aten::copy_", "aten::clone"} & operators
        assert both(x).is_contiguous(memory_format=torch.channels_last)
    asked = x.clone().requires_grad_()
    both(asked).sum().backward()
    assert asked.grad.isfinite().all()


def test_auto_is_the_kernel() -> None:
    def there_and_back(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        y = haar.patch(x, patch_size=4, media="video")
        return haar.unpatch(2 * y, patch_size=4, media="video"), fsq.quantize(z, FSQ_LEVELS)

    given = clip(1, 3, 9, 64, 64, dtype=torch.float32), clip(1, 6, 2, 8, 8, dtype=torch.float32)
    operators = {event.name for event in record(lambda: there_and_back(*given))}
    assert {"cosmos_tokenizer::haar_analyse", "cosmos_tokenizer::haar_synthesise", "cosmos_tokenizer::fsq"} <= operators


def record(run: object) -> list:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    return list(profile.events())


def test_offsets_beyond_two_billion_elements() -> None:
    # 2**31 elements and some: an int32 offset would wrap around in the last frames.
    frames = 2**31 // (3 * 1024 * 1024) + 8
    frames -= frames % 4
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    x = torch.zeros(1, 3, frames, 1024, 1024, device="cuda", dtype=torch.bfloat16)
    x[:, :, -4:] = torch.randn(1, 3, 4, 1024, 1024, device="cuda", dtype=torch.bfloat16)
    y = haar.patch(x, patch_size=4, media="video", start=False)
    expected = haar.patch(x[:, :, -4:], patch_size=4, media="video", start=False, backend="reference")
    assert torch.equal(y[:, :, -1:], expected)
    assert not y[:, :, :-1].any()
    back = haar.unpatch(y, patch_size=4, media="video", start=False)
    torch.testing.assert_close(back[:, :, -4:], x[:, :, -4:], rtol=0, atol=0.1)


def test_frames_beyond_two_billion_elements_are_normed() -> None:
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    side, channels = 1024, 96
    count = 2**31 // (channels * side * side) + 2
    x = torch.zeros(count, side, side, channels, device="cuda", dtype=torch.bfloat16).movedim(-1, 1)
    x[-1] = torch.randn(channels, side, side, device="cuda", dtype=torch.bfloat16)
    parameters = clip(2, channels, dtype=torch.bfloat16).unbind()
    y = norm(x, *parameters, False)
    assert torch.equal(y[-1:], norm(x[-1:].clone(memory_format=torch.channels_last), *parameters, False))
    assert torch.equal(y[:-1], parameters[1][:, None, None].expand_as(y[:-1]))
