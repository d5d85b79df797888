"""Wavelet patching: its definition in float64, its inverse, sub-band order, odd sizes, dtypes, gradients."""

import pytest
import torch
from torch.autograd import gradcheck

from cosmos_tokenizer import InputError, haar

CASES = [("video", 2), ("video", 4), ("image", 2), ("image", 4)]


def clip(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def by_definition(x: torch.Tensor, patch_size: int, media: str) -> torch.Tensor:
    """Each coefficient as a signed mean over its whole block, one block and one band at a time."""
    p = patch_size
    bits = p.bit_length() - 1
    if media == "video":
        x = torch.cat([x[:, :, :1]] * (p - 1) + [x], dim=2)
    time = p if media == "video" else 1
    blocks = x.unfold(2, time, time).unfold(3, p, p).unfold(4, p, p)
    axes = ("t", "h", "w") if media == "video" else ("w", "h")

    def sign(band: dict[str, int], t: int, h: int, w: int) -> int:
        return (-1) ** (band.get("t", 0) * t + band["h"] * h + band["w"] * w)

    bands = [{axis: code >> (len(axes) - 1 - i) & 1 for i, axis in enumerate(axes)} for code in range(2 ** len(axes))]
    out = []
    for outer in bands if bits == 2 else [dict.fromkeys(axes, 0)]:
        for inner in bands:
            total = torch.zeros_like(blocks[..., 0, 0, 0])
            for t in range(time):
                for h in range(p):
                    for w in range(p):
                        fine = sign(inner, t & 1, h & 1, w & 1)
                        coarse = sign(outer, t >> 1, h >> 1, w >> 1)
                        total = total + fine * coarse * blocks[..., t, h, w]
            out.append(total / (time * p * p))
    return torch.cat(out, dim=1)


@pytest.mark.parametrize(("media", "patch_size"), CASES)
def test_equals_the_definition(media: str, patch_size: int) -> None:
    frames = 1 + patch_size if media == "video" else 1
    x = clip(2, 3, frames, 2 * patch_size, 3 * patch_size, dtype=torch.float64)
    got = haar.patch(x, patch_size=patch_size, media=media)
    torch.testing.assert_close(got, by_definition(x, patch_size, media), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("media", "patch_size"), CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 0.05)]
)
def test_inverse_restores_the_clip(media: str, patch_size: int, dtype: torch.dtype, tolerance: float) -> None:
    x = clip(1, 3, 1 + 3 * patch_size if media == "video" else 1, 24, 40, dtype=dtype)
    y = haar.patch(x, patch_size=patch_size, media=media)
    assert y.dtype == dtype
    back = haar.unpatch(y, patch_size=patch_size, media=media)
    torch.testing.assert_close(back, x, rtol=0, atol=tolerance)


def test_constant_clip_has_only_the_low_band() -> None:
    y = haar.patch(torch.full((1, 3, 5, 8, 8), 0.7), patch_size=4, media="video")
    torch.testing.assert_close(y[:, :3], torch.full_like(y[:, :3], 0.7))
    assert y[:, 3:].abs().max() < 1e-7


def test_second_band_is_width_in_video_and_height_in_images() -> None:
    columns = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 3, 1, 8, 8)
    video = haar.patch(columns, patch_size=2, media="video").unflatten(1, (8, 3)).abs().amax((0, 2, 3, 4, 5))
    image = haar.patch(columns, patch_size=2, media="image").unflatten(1, (4, 3)).abs().amax((0, 2, 3, 4, 5))
    assert video.nonzero().flatten().tolist() == [1]
    assert image.nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("media", ["video", "image"])
def test_odd_sides_pair_the_last_sample_with_its_reflection(media: str) -> None:
    x = clip(1, 3, 3 if media == "video" else 1, 7, 9)
    padded = torch.cat([x, x[..., -2:-1]], dim=-1)
    padded = torch.cat([padded, padded[..., -2:-1, :]], dim=-2)
    torch.testing.assert_close(
        haar.patch(x, patch_size=2, media=media), haar.patch(padded, patch_size=2, media=media), rtol=0, atol=0
    )


def test_72_frames_have_the_19_groups_of_the_published_network() -> None:
    assert haar.patch(clip(1, 3, 72, 8, 8), patch_size=4, media="video").shape == (1, 192, 19, 2, 2)


@pytest.mark.parametrize("patch_size", [2, 4])
def test_chunks_are_the_groups_of_the_whole_clip_and_return_to_its_frames(patch_size: int) -> None:
    p = patch_size
    x = clip(1, 3, 1 + 3 * p, 8, 12)
    whole = haar.patch(x, patch_size=p, media="video")
    rest = [
        haar.patch(x[:, :, i : i + n * p], patch_size=p, media="video", start=False)
        for i, n in ((1, 2), (1 + 2 * p, 1))
    ]
    chunks = [haar.patch(x[:, :, :1], patch_size=p, media="video"), *rest]
    torch.testing.assert_close(torch.cat(chunks, dim=2), whole, rtol=0, atol=0)
    back = [haar.unpatch(y, patch_size=p, media="video", start=i == 0) for i, y in enumerate(chunks)]
    assert [y.shape[2] for y in back] == [1, 2 * p, p]
    torch.testing.assert_close(torch.cat(back, dim=2), haar.unpatch(whole, patch_size=p, media="video"), rtol=0, atol=0)


def test_a_chunk_that_fills_no_whole_groups_is_named() -> None:
    for frames in (6, 0):
        with pytest.raises(InputError, match=f"chunk of {frames} frames.*multiple of 4"):
            haar.patch(clip(1, 3, frames, 8, 8), patch_size=4, media="video", start=False)


def test_the_shortest_sides_are_extended_and_shorter_ones_named() -> None:
    assert haar.patch(clip(1, 3, 1, 3, 3), patch_size=4, media="image").shape == (1, 48, 1, 1, 1)
    assert haar.patch(clip(1, 3, 1, 2, 2), patch_size=2, media="image").shape == (1, 12, 1, 1, 1)
    with pytest.raises(InputError, match="9x2 are too small"):
        haar.patch(clip(1, 3, 1, 9, 2), patch_size=4, media="image")
    with pytest.raises(InputError, match="1x9 are too small"):
        haar.patch(clip(1, 3, 1, 1, 9), patch_size=2, media="image")


def test_channels_that_are_no_whole_patches_are_named() -> None:
    with pytest.raises(InputError, match="100 channels.*64 bands"):
        haar.unpatch(clip(1, 100, 1, 2, 2), patch_size=4, media="video")


@pytest.mark.parametrize(("media", "patch_size"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_coefficients_lie_channels_last(media: str, patch_size: int, dtype: torch.dtype) -> None:
    y = haar.patch(clip(2, 3, 1, 8, 12, dtype=dtype), patch_size=patch_size, media=media)
    assert y.movedim(1, -1).is_contiguous()


@pytest.mark.parametrize(("media", "patch_size"), CASES)
def test_gradients_are_exact(media: str, patch_size: int) -> None:
    x = clip(1, 3, 1 + patch_size if media == "video" else 1, 4, 4, dtype=torch.float64).requires_grad_()
    y = haar.patch(x, patch_size=patch_size, media=media).detach().requires_grad_()
    assert gradcheck(lambda v: haar.patch(v, patch_size=patch_size, media=media), (x,), fast_mode=True)
    assert gradcheck(lambda v: haar.unpatch(v, patch_size=patch_size, media=media), (y,), fast_mode=True)
