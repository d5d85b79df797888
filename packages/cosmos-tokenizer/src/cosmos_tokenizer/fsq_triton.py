"""Finite scalar quantisation as Triton kernels (arXiv 2309.15505; arXiv 2501.03575, section 4.1).

`fsq_kernel` bounds, rounds, indexes and scales in one pass: it reads each latent once and writes its code, and one
int32 index a position. `fsq_backward_kernel` reads latent and gradient once and computes the bound's slope anew, so
that the forward pass keeps nothing but its input.

Tile: one program takes `BLOCK` positions of one clip and goes through the channels one after the other, so that lanes
stand on neighbouring positions, side by side in memory, and the index grows in a register. With six bf16 channels a
position is 28 bytes and about 150 FLOP: bound by memory on any GPU, and by the launch below some hundred thousand
positions, which is what clips have. A position's live state is a few float32 values, thus 44 registers forward and
28 backward.

The arithmetic is the reference's, operation by operation in float32, no multiply-add fused: in float32 a code differs
from the reference's only where the two `tanh` differ next to a rounding boundary.
"""

# ruff: noqa: ANN001, ANN202 - the types of a kernel's arguments are those of its launch.

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from cosmos_tokenizer import fsq_reference

BLOCK = 512
# A fused multiply-add rounds once where the reference rounds twice.
_LAUNCH: dict[str, Any] = {"enable_fp_fusion": False}

_LOWEST_BIT_IS_ONE = tl.constexpr(1.5 * 2**23)


@triton.jit
@no_type_check
def _tanh(x, LIBDEVICE: tl.constexpr):
    # The interpreter has no libdevice.
    if LIBDEVICE:
        return libdevice.tanh(x)
    else:
        return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
@no_type_check
def _round(x):
    """Small values to the nearest integer, ties to even, as the addition rounds off what lies below its last bit."""
    return (x + _LOWEST_BIT_IS_ONE) - _LOWEST_BIT_IS_ONE


@triton.jit
@no_type_check
def fsq_kernel(
    z_ptr,
    codes_ptr,
    indices_ptr,
    positions,
    z_stride_b,
    z_stride_c,
    z_stride_s,
    codes_stride_b,
    codes_stride_c,
    codes_stride_s,
    LEVELS: tl.constexpr,
    SHIFTS: tl.constexpr,
    HALF_WIDTHS: tl.constexpr,
    OFFSETS: tl.constexpr,
    LIBDEVICE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Codes and indices of `BLOCK` positions: bound, round, index, code."""
    tiles = tl.cdiv(positions, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    s = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    inside = s < positions
    z = z_ptr + b * z_stride_b + s.to(tl.int64) * z_stride_s
    codes = codes_ptr + b * codes_stride_b + s.to(tl.int64) * codes_stride_s
    index = tl.zeros([BLOCK], tl.int32)
    basis = 1
    for c in tl.static_range(len(LEVELS)):
        value = tl.load(z, mask=inside, other=0.0).to(tl.float32)
        squashed = _tanh(value + SHIFTS[c], LIBDEVICE)
        digit = _round(squashed * HALF_WIDTHS[c] - OFFSETS[c])
        index += (digit.to(tl.int32) + LEVELS[c] // 2) * basis
        basis *= LEVELS[c]
        code = tl.div_rn(digit, tl.full([BLOCK], LEVELS[c] // 2, tl.float32))
        tl.store(codes, code.to(codes_ptr.dtype.element_ty), mask=inside)
        z += z_stride_c
        codes += codes_stride_c
    tl.store(indices_ptr + b * positions + s, index, mask=inside)


@triton.jit
@no_type_check
def fsq_backward_kernel(
    grad_ptr,
    z_ptr,
    out_ptr,
    positions,
    grad_stride_b,
    grad_stride_c,
    grad_stride_s,
    z_stride_b,
    z_stride_c,
    z_stride_s,
    out_stride_b,
    out_stride_c,
    out_stride_s,
    LEVELS: tl.constexpr,
    SHIFTS: tl.constexpr,
    HALF_WIDTHS: tl.constexpr,
    LIBDEVICE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Gradient of the codes of `BLOCK` positions: straight through the rounding, times the slope of the bound."""
    tiles = tl.cdiv(positions, BLOCK)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    s = tl.program_id(0) % tiles * BLOCK + tl.arange(0, BLOCK)
    inside = s < positions
    grad = grad_ptr + b * grad_stride_b + s.to(tl.int64) * grad_stride_s
    z = z_ptr + b * z_stride_b + s.to(tl.int64) * z_stride_s
    out = out_ptr + b * out_stride_b + s.to(tl.int64) * out_stride_s
    for c in tl.static_range(len(LEVELS)):
        squashed = _tanh(tl.load(z, mask=inside, other=0.0).to(tl.float32) + SHIFTS[c], LIBDEVICE)
        passed = tl.load(grad, mask=inside, other=0.0).to(tl.float32)
        passed = tl.div_rn(passed, tl.full([BLOCK], LEVELS[c] // 2, tl.float32)) * HALF_WIDTHS[c]
        tl.store(out, (passed * (1.0 - squashed * squashed)).to(out_ptr.dtype.element_ty), mask=inside)
        grad += grad_stride_c
        z += z_stride_c
        out += out_stride_c


def bound(levels: tuple[int, ...]) -> dict[str, tuple[int, ...] | tuple[float, ...]]:
    """What a kernel is specialised on for each channel."""
    return {
        "LEVELS": levels,
        "SHIFTS": tuple(fsq_reference.shift(n) for n in levels),
        "HALF_WIDTHS": tuple(fsq_reference.half_width(n) for n in levels),
    }


def quantize_into(codes: Tensor, indices: Tensor, z: Tensor, levels: tuple[int, ...]) -> None:
    """Write the codes (B C S) and the indices (B S, contiguous) of `z` (B C S); other strides are free."""
    programs = z.shape[0] * -(-z.shape[2] // BLOCK)
    with torch.cuda.device_of(z):
        fsq_kernel[(programs,)](
            z,
            codes,
            indices,
            z.shape[2],
            *z.stride(),
            *codes.stride(),
            **bound(levels),
            OFFSETS=tuple(fsq_reference.offset(n) for n in levels),
            LIBDEVICE=z.is_cuda,
            BLOCK=BLOCK,
            **_LAUNCH,
        )


def backward_into(out: Tensor, grad: Tensor, z: Tensor, levels: tuple[int, ...]) -> None:
    """Write the gradient of `z` for the gradient of its codes, all B C S, any strides."""
    programs = z.shape[0] * -(-z.shape[2] // BLOCK)
    with torch.cuda.device_of(z):
        fsq_backward_kernel[(programs,)](
            grad,
            z,
            out,
            z.shape[2],
            *grad.stride(),
            *z.stride(),
            *out.stride(),
            **bound(levels),
            LIBDEVICE=z.is_cuda,
            BLOCK=BLOCK,
            **_LAUNCH,
        )


@torch.library.custom_op("cosmos_tokenizer::fsq", mutates_args=())
def _fsq(z: Tensor, levels: list[int]) -> tuple[Tensor, Tensor]:
    codes, indices = _empty_codes(z, levels)
    quantize_into(codes.flatten(2), indices.flatten(1), z.flatten(2), tuple(levels))
    return codes, indices


@_fsq.register_fake
def _empty_codes(z: Tensor, levels: list[int]) -> tuple[Tensor, Tensor]:
    return _empty_like(z), z.new_empty((z.shape[0], *z.shape[2:]), dtype=torch.int32)


@torch.library.custom_op("cosmos_tokenizer::fsq_backward", mutates_args=())
def _fsq_backward(grad: Tensor, z: Tensor, levels: list[int]) -> Tensor:
    out = _empty_like(z)
    backward_into(out.flatten(2), grad.flatten(2), z.flatten(2), tuple(levels))
    return out


@_fsq_backward.register_fake
def _empty_gradient(grad: Tensor, z: Tensor, levels: list[int]) -> Tensor:
    return _empty_like(z)


def _empty_like(z: Tensor) -> Tensor:
    """In the memory order of `z` where its positions are evenly spaced (contiguous, channels last), else contiguous."""
    return torch.empty_like(z.flatten(2)).unflatten(2, z.shape[2:])


def _save(ctx, inputs, output) -> None:
    z, ctx.levels = inputs
    ctx.save_for_backward(z)


def _gradient(ctx, grad_codes: Tensor, grad_indices: None):
    (z,) = ctx.saved_tensors
    return _fsq_backward(grad_codes, z, ctx.levels), None


_fsq.register_autograd(_gradient, setup_context=_save)


def codes_and_indices(z_BCTHW: Tensor, levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """See :func:`cosmos_tokenizer.fsq.codes_and_indices`."""
    return _fsq(z_BCTHW, list(levels))
