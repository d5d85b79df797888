"""On a GPU: the Haar and FSQ kernels against plain torch on the same device, forward, backward and compiled."""

import pytest
import torch
from torch import Tensor

from cosmos_tokenizer import fsq, fsq_reference, haar
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


def test_auto_is_the_kernel_and_torch_compiles_it() -> None:
    def there_and_back(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        y = haar.patch(x, patch_size=4, media="video")
        return haar.unpatch(2 * y, patch_size=4, media="video"), fsq.quantize(z, FSQ_LEVELS)

    given = clip(1, 3, 9, 64, 64, dtype=torch.float32), clip(1, 6, 2, 8, 8, dtype=torch.float32)
    operators = {event.name for event in record(lambda: there_and_back(*given))}
    assert {"cosmos_tokenizer::haar_analyse", "cosmos_tokenizer::haar_synthesise", "cosmos_tokenizer::fsq"} <= operators
    compiled = torch.compile(there_and_back, fullgraph=True)
    torch.testing.assert_close(compiled(*given), there_and_back(*given), rtol=0, atol=0)


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
