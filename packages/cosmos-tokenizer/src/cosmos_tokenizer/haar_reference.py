"""Haar wavelet patching in plain torch: the definition that the kernels of ``haar_triton`` are tested against.

Runs on every device and in every float dtype; half precision is computed in float32.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer.config import Media

# Sub-bands count in binary over these axes of B C T H W, first axis most significant: the released 2-D nets put width
# first.
_AXES: dict[Media, tuple[int, ...]] = {"video": (2, 3, 4), "image": (4, 3)}


def patch(
    x_BCTHW: Float[Tensor, "B C T H W"], *, patch_size: int, media: Media, start: bool
) -> Float[Tensor, "B D t h w"]:
    """See :func:`cosmos_tokenizer.haar.patch`."""
    dtype = x_BCTHW.dtype
    y = x_BCTHW.float() if dtype in (torch.float16, torch.bfloat16) else x_BCTHW
    if media == "video" and start:
        y = torch.cat([y[:, :, :1].expand(-1, -1, patch_size - 1, -1, -1), y], dim=2)
    for _ in range(patch_size.bit_length() - 1):
        bands = [_pad_to_even(y, _AXES[media])]
        for axis in _AXES[media]:
            bands = [half for band in bands for half in _analyse(band, axis)]
        # The concatenation writes channels last, which spares the network a pass of its own.
        y = torch.cat([band.movedim(1, -1) for band in bands], dim=-1).movedim(-1, 1)
    return y.to(dtype)


def unpatch(
    y_BDTHW: Float[Tensor, "B D t h w"], *, patch_size: int, media: Media, start: bool
) -> Float[Tensor, "B C T H W"]:
    """See :func:`cosmos_tokenizer.haar.unpatch`."""
    dtype = y_BDTHW.dtype
    x = y_BDTHW.float() if dtype in (torch.float16, torch.bfloat16) else y_BDTHW
    for _ in range(patch_size.bit_length() - 1):
        bands = list(x.chunk(2 ** len(_AXES[media]), dim=1))
        for axis in reversed(_AXES[media]):
            bands = [_synthesise(low, high, axis) for low, high in zip(bands[::2], bands[1::2], strict=True)]
        (x,) = bands
    if media == "video" and start:
        x = x[:, :, patch_size - 1 :]
    return x.to(dtype)


def _analyse(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return (even + odd) / 2, (even - odd) / 2


def _synthesise(low: Tensor, high: Tensor, axis: int) -> Tensor:
    return torch.stack([low + high, low - high], dim=axis + 1).flatten(axis, axis + 1)


def _pad_to_even(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    odd = [x.shape[axis] % 2 if axis in axes else 0 for axis in (2, 3, 4)]
    if not any(odd):
        return x
    return F.pad(x, (0, odd[2], 0, odd[1], 0, odd[0]), mode="reflect")
