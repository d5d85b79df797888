"""Haar wavelet patching and its exact inverse (arXiv 2501.03575, section 4.1).

One level replaces each 2x2x2 block (2x2 for images) by its signed means: coefficient = sum of +-x over 8 (over 4), so
the low-pass band has a gain of exactly one. A patch of 4 runs two levels, the second over every band of the first.
``haar_reference`` is the definition; ``haar_triton`` does the same in one pass over the memory.
"""

from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import haar_reference
from cosmos_tokenizer.backend import Backend, use_triton
from cosmos_tokenizer.config import Media
from cosmos_tokenizer.errors import InputError


def patch(
    x_BCTHW: Float[Tensor, "B C T H W"],
    *,
    patch_size: int,
    media: Media,
    start: bool = True,
    backend: Backend = "auto",
) -> Float[Tensor, "B D t h w"]:
    """Wavelet coefficients of a clip; for video the first frame is repeated so that it fills a group of its own.

    The coefficients lie channels last in memory (``B t h w D``), as the network's convolutions want them.

    Args:
        x_BCTHW: clip. An axis that is odd at some level is extended by one reflected sample at its end.
        patch_size: 2 or 4, the side of a patch in pixels and, for video, in frames.
        media: decides the axes and the order of the sub-bands.
        start: whether the clip begins here. The frames of a chunk that goes on are grouped as they come.
        backend: see :func:`cosmos_tokenizer.backend.use_triton`.

    Raises:
        InputError: a side too short to be reflected; a chunk that goes on does not fill whole groups of
            ``patch_size`` frames; or the named backend cannot run here.
    """
    frames, height, width = x_BCTHW.shape[2:]
    if min(height, width) <= patch_size // 2:
        raise InputError(
            f"frames of {height}x{width} are too small: a patch of {patch_size} needs more than half its size"
        )
    if media == "video" and not start and (frames % patch_size or not frames):
        raise InputError(f"a chunk of {frames} frames continues a clip: give it a multiple of {patch_size} frames")
    if use_triton(backend, x_BCTHW):
        from cosmos_tokenizer import haar_operators

        return haar_operators.patch(x_BCTHW, patch_size=patch_size, media=media, start=start)
    return haar_reference.patch(x_BCTHW, patch_size=patch_size, media=media, start=start)


def unpatch(
    y_BDTHW: Float[Tensor, "B D t h w"],
    *,
    patch_size: int,
    media: Media,
    start: bool = True,
    backend: Backend = "auto",
) -> Float[Tensor, "B C T H W"]:
    """Inverse of :func:`patch`: where a video starts, the repeated copies of its first frame are dropped.

    Raises:
        InputError: the channels are not those of whole patches, or the named backend cannot run here.
    """
    bands = patch_size ** (3 if media == "video" else 2)
    if y_BDTHW.shape[1] % bands:
        raise InputError(f"{y_BDTHW.shape[1]} channels are no multiple of the {bands} bands of a patch of {patch_size}")
    if use_triton(backend, y_BDTHW):
        from cosmos_tokenizer import haar_operators

        return haar_operators.unpatch(y_BDTHW, patch_size=patch_size, media=media, start=start)
    return haar_reference.unpatch(y_BDTHW, patch_size=patch_size, media=media, start=start)
