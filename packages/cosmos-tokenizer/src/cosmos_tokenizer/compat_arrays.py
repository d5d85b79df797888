"""Arrays of bytes for ``compat``: to tensors and back, and the padding of NVIDIA's Cosmos-Tokenizer library.

Padding is black and centred in space; in time it repeats the first and the last frame, half of it in front. It is there
to give the bytes that library gives; ``CausalTokenizer`` pads at the ends only, so that frame 0 stays frame 0.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

SPATIAL_ALIGN = 16
TEMPORAL_ALIGN = 8


def numpy2tensor(
    input_image: UInt8[np.ndarray, "B *T H W 3"],
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cuda",
) -> Float[Tensor, "B 3 *T H W"]:
    """Bytes 0 ... 255 to floats in [-1, 1], colours in front."""
    values = torch.from_numpy(np.ascontiguousarray(input_image)).to(device).movedim(-1, 1)
    return (values.float() / 255 * 2 - 1).to(dtype)


def tensor2numpy(input_tensor: Float[Tensor, "B 3 *T H W"]) -> UInt8[np.ndarray, "B *T H W 3"]:
    """Inverse of :func:`numpy2tensor`: clamped, and rounded half up."""
    values = (input_tensor.float() + 1) / 2
    return (values.clamp(0, 1) * 255 + 0.5).to(torch.uint8).movedim(1, -1).cpu().numpy()


def pad_image_batch(
    batch: UInt8[np.ndarray, "B H W 3"], spatial_align: int = SPATIAL_ALIGN
) -> tuple[UInt8[np.ndarray, "B Hp Wp 3"], list[int]]:
    """Black margins to sides of multiples of ``spatial_align``; with ``[top, left, bottom, right]`` of the picture."""
    (top, below), (left, right) = (_margins(-side % spatial_align) for side in batch.shape[1:3])
    height, width = batch.shape[1:3]
    padded = np.pad(batch, ((0, 0), (top, below), (left, right), (0, 0)))
    return padded, [top, left, top + height, left + width]


def unpad_image_batch(batch: UInt8[np.ndarray, "B Hp Wp 3"], crop_region: list[int]) -> UInt8[np.ndarray, "B H W 3"]:
    """Inverse of :func:`pad_image_batch`."""
    top, left, bottom, right = crop_region
    return batch[:, top:bottom, left:right]


def pad_video_batch(
    batch: UInt8[np.ndarray, "B T H W 3"], temporal_align: int = TEMPORAL_ALIGN, spatial_align: int = SPATIAL_ALIGN
) -> tuple[UInt8[np.ndarray, "B Tp Hp Wp 3"], list[int]]:
    """As :func:`pad_image_batch`, and in time by copies of the edge frames to 1 + ``temporal_align`` n frames.

    With ``[first, top, left, end, bottom, right]`` of the clip.
    """
    frames, height, width = batch.shape[1:4]
    before, after = _margins(-(frames - 1) % temporal_align)
    (top, below), (left, right) = (_margins(-side % spatial_align) for side in (height, width))
    longer = np.pad(batch, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)), mode="edge")
    padded = np.pad(longer, ((0, 0), (0, 0), (top, below), (left, right), (0, 0)))
    return padded, [before, top, left, before + frames, top + height, left + width]


def unpad_video_batch(
    batch: UInt8[np.ndarray, "B Tp Hp Wp 3"], crop_region: list[int]
) -> UInt8[np.ndarray, "B T H W 3"]:
    """Inverse of :func:`pad_video_batch`."""
    first, top, left, end, bottom, right = crop_region
    return batch[:, first:end, top:bottom, left:right]


def _margins(amount: int) -> tuple[int, int]:
    return amount // 2, amount - amount // 2
