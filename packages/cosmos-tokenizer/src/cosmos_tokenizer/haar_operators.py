"""The Haar kernels as operators of torch.library: shapes for compilers, and gradients by each other's kernel.

The transform of arXiv 2501.03575, section 4.1, is linear, so the gradient of one direction is the adjoint kernel.
"""

# ruff: noqa: ANN001, ANN202 - autograd contexts have no public type.

import torch
from torch import Tensor

from cosmos_tokenizer.config import Media
from cosmos_tokenizer.haar_triton import analyse_into, synthesise_into


@torch.library.custom_op("cosmos_tokenizer::haar_analyse", mutates_args=())
def _analyse(x: Tensor, patch_size: int, axes: int, lead: str, scale: float) -> Tensor:
    y = _empty_bands(x, patch_size, axes, lead, scale)
    analyse_into(y, x, patch_size=patch_size, axes=axes, lead=lead, scale=scale)
    return y


@_analyse.register_fake
def _empty_bands(x: Tensor, patch_size: int, axes: int, lead: str, scale: float) -> Tensor:
    batch, channels, frames, height, width = x.shape
    if axes == 3:
        frames = _patches(frames + _ahead(lead, patch_size), patch_size)
    shape = (batch, frames, _patches(height, patch_size), _patches(width, patch_size), channels * patch_size**axes)
    return x.new_empty(shape).movedim(-1, 1)


@torch.library.custom_op("cosmos_tokenizer::haar_synthesise", mutates_args=())
def _synthesise(
    y: Tensor, patch_size: int, axes: int, lead: str, scale: float, frames: int, height: int, width: int
) -> Tensor:
    batch, depth, t, h, w = y.shape
    whole = (t * patch_size - _ahead(lead, patch_size) if axes == 3 else t, h * patch_size, w * patch_size)
    x = y.new_empty((batch, depth // patch_size**axes, *whole))
    synthesise_into(x, y, patch_size=patch_size, axes=axes, lead=lead, scale=scale)
    if whole == (frames, height, width):
        return x
    ahead = _ahead(lead, patch_size)
    for axis, size in ((2, frames), (3, height), (4, width)):
        x = _fold(x, axis, size, patch_size, ahead if axis == 2 else 0)
    return x.contiguous()


@_synthesise.register_fake
def _empty_clip(
    y: Tensor, patch_size: int, axes: int, lead: str, scale: float, frames: int, height: int, width: int
) -> Tensor:
    return y.new_empty((y.shape[0], y.shape[1] // patch_size**axes, frames, height, width))


def _patches(samples: int, patch_size: int) -> int:
    return (samples + patch_size - 1) // patch_size


def _ahead(lead: str, patch_size: int) -> int:
    return 0 if lead == "none" else patch_size - 1


def _fold(x: Tensor, axis: int, size: int, patch_size: int, ahead: int) -> Tensor:
    """Add what reached the samples behind the end to those that they reflect; a few slices, and only of odd sizes."""
    for past in range(size, x.shape[axis]):
        index, samples = past + ahead, size + ahead
        if patch_size == 4 and index >= (samples + 1) // 2 * 2:
            index -= 4
        if index >= samples:
            index = 2 * samples - 2 - index
        x.select(axis, max(index - ahead, 0)).add_(x.select(axis, past))
    return x.narrow(axis, 0, size)


_ADJOINT = {"repeat": "sum", "sum": "repeat", "zero": "drop", "drop": "zero", "none": "none"}


def _save_analysis(ctx, inputs, output) -> None:
    x, ctx.patch_size, ctx.axes, ctx.lead, ctx.scale = inputs
    ctx.size = x.shape[2:]


def _analysis_gradient(ctx, grad: Tensor):
    lead = _ADJOINT[ctx.lead]
    return _synthesise(grad, ctx.patch_size, ctx.axes, lead, ctx.scale, *ctx.size), None, None, None, None


def _save_synthesis(ctx, inputs, output) -> None:
    _, ctx.patch_size, ctx.axes, ctx.lead, ctx.scale, *_ = inputs


def _synthesis_gradient(ctx, grad: Tensor):
    grad_y = _analyse(grad, ctx.patch_size, ctx.axes, _ADJOINT[ctx.lead], ctx.scale)
    return grad_y, None, None, None, None, None, None, None


_analyse.register_autograd(_analysis_gradient, setup_context=_save_analysis)
_synthesise.register_autograd(_synthesis_gradient, setup_context=_save_synthesis)


def patch(x_BCTHW: Tensor, *, patch_size: int, media: Media, start: bool) -> Tensor:
    """See :func:`cosmos_tokenizer.haar.patch`."""
    axes = 3 if media == "video" else 2
    lead = "repeat" if media == "video" and start else "none"
    return _analyse(x_BCTHW, patch_size, axes, lead, patch_size**-axes)


def unpatch(y_BDTHW: Tensor, *, patch_size: int, media: Media, start: bool) -> Tensor:
    """See :func:`cosmos_tokenizer.haar.unpatch`."""
    axes = 3 if media == "video" else 2
    lead = "drop" if media == "video" and start else "none"
    t, h, w = y_BDTHW.shape[2:]
    frames = t * patch_size - _ahead(lead, patch_size) if axes == 3 else t
    return _synthesise(y_BDTHW, patch_size, axes, lead, 1.0, frames, h * patch_size, w * patch_size)
