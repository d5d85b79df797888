"""Norm over whole frames, and SiLU, as Triton kernels (arXiv 2501.03575, section 4.1): two reads and one write.

`frame_moments_kernel` reads the frames once and leaves, for each chunk of a frame, how many elements it has, their mean
and their sum of squared deviations. `frame_norm_kernel` merges the moments of its frame's chunks, a few kilobytes that
stay in L2, reads the frames again and writes the result. Frames lie channels last, so that a frame is one run of memory
and the channel of an element is its place modulo C: no size wastes lanes, and neighbours in a thread are neighbours in
memory and in the weights.

Bytes: 13 frames of 180x320 with 256 channels in bf16 are 383 MB, read twice and written once, for some 20 FLOP and two
special functions an element: bound by memory on any GPU.

Tile: one program takes one chunk of a frame, `BLOCK` elements at a time, 32 for each of 256 threads. A frame has up to
`MOST_CHUNKS` chunks: enough programs to fill a GPU from a single frame, few enough for every program to merge. The cut
depends on the size of a frame alone, so that a frame gives the same bits in a clip, in a stream and by itself.
Registers: 40 to 80 where C is a multiple of 8, so three or four programs share a multiprocessor, with 48 KB and more
(bf16) on the way together.

Rounding: moments are float32 and never a difference of large sums. A tile's mean is taken twice, the second time of
what the first leaves, which makes it as exact as float32 can name it: a constant frame becomes its bias. Moments are
merged by their deviations from one another (Chan, Golub and LeVeque). Multiply-adds may fuse: nothing relies on a
product's own rounding.
"""

# ruff: noqa: ANN001, ANN202 - the types of a kernel's arguments are those of its launch.

import math
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 8192
MOST_CHUNKS = 512
WARPS = 8
_LAUNCH: dict[str, Any] = {"num_warps": WARPS}


@triton.constexpr_function
def _common(a, b):
    return math.gcd(a, b)


@triton.jit
@no_type_check
def _chunk(pixels, chunks, tiles, program, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Frame, offset of the chunk's first element, and how many elements the chunk has."""
    frame = program // chunks
    first = (program % chunks).to(tl.int64) * tiles * BLOCK
    length = tl.full([], CHANNELS, tl.int64) * pixels
    return frame, frame * length + first, tl.minimum(length - first, tiles * BLOCK).to(tl.int32)


@triton.jit
@no_type_check
def frame_moments_kernel(
    x_ptr,
    moments_ptr,
    pixels,
    chunks,
    tiles,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Count, mean and sum of squared deviations of one chunk of one frame, in float32."""
    program = tl.program_id(0)
    frame, first, size = _chunk(pixels, chunks, tiles, program, CHANNELS, BLOCK)
    lanes = tl.arange(0, BLOCK)
    count = 0.0
    mean = 0.0
    deviation = 0.0
    for at in range(0, size, BLOCK):
        inside = at + lanes < size
        x = tl.load(x_ptr + first + at + lanes, mask=inside, other=0.0).to(tl.float32)
        here = tl.minimum(size - at, BLOCK).to(tl.float32)
        about = tl.div_rn(tl.sum(x), here)
        apart = tl.where(inside, x - about, 0.0)
        missed = tl.div_rn(tl.sum(apart), here)
        total = count + here
        step = about + missed - mean
        deviation += tl.sum(apart * apart) + step * step * (count * (here / total))
        mean += step * (here / total)
        count = total
    moments = moments_ptr + frame.to(tl.int64) * 3 * chunks + program % chunks
    tl.store(moments, count)
    tl.store(moments + chunks, mean)
    tl.store(moments + 2 * chunks, deviation)


@triton.jit
@no_type_check
def frame_norm_kernel(
    x_ptr,
    moments_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    pixels,
    chunks,
    tiles,
    eps,
    CHANNELS: tl.constexpr,
    SILU: tl.constexpr,
    MOST_CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Merge the moments of the frame's chunks, then norm, scale, shift and SiLU one chunk of it."""
    # Backwards, so that what was read last is read first, out of L2.
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    frame, first, size = _chunk(pixels, chunks, tiles, program, CHANNELS, BLOCK)
    moments = moments_ptr + frame.to(tl.int64) * 3 * chunks
    each = tl.arange(0, MOST_CHUNKS)
    counts = tl.load(moments + each, mask=each < chunks, other=0.0)
    means = tl.load(moments + chunks + each, mask=each < chunks, other=0.0)
    deviations = tl.load(moments + 2 * chunks + each, mask=each < chunks, other=0.0)
    total = tl.sum(counts)
    about = tl.load(moments + chunks)
    mean = about + tl.sum(counts * (means - about)) / total
    apart = means - mean
    inverse = tl.rsqrt(tl.sum(deviations + counts * apart * apart) / total + eps)
    lanes = tl.arange(0, BLOCK)
    # What divides C and tiles alike divides this too: weights are read in vectors, like the frames.
    channel_of_first = tl.multiple_of((first % CHANNELS).to(tl.int32), _common(CHANNELS, BLOCK))
    for at in range(0, size, BLOCK):
        inside = at + lanes < size
        x = tl.load(x_ptr + first + at + lanes, mask=inside, other=0.0).to(tl.float32)
        channel = (channel_of_first + at + lanes) % CHANNELS
        weight = tl.load(weight_ptr + channel).to(tl.float32)
        bias = tl.load(bias_ptr + channel).to(tl.float32)
        y = (x - mean) * (inverse * weight) + bias
        if SILU:
            y *= tl.sigmoid(y)
        tl.store(y_ptr + first + at + lanes, y.to(y_ptr.dtype.element_ty), mask=inside)


def partition(length: int) -> tuple[int, int]:
    """(chunks, tiles of each but the last) of a frame of so many elements; no chunk is empty."""
    tiles = -(-length // BLOCK)
    per_chunk = max(1, -(-tiles // MOST_CHUNKS))
    return -(-tiles // per_chunk), per_chunk


def norm_silu_into(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, *, eps: float, silu: bool) -> None:
    """Write into `y` the normed `x`, both N C H W and dense, channels last; `weight` and `bias` are contiguous."""
    frames, channels, height, width = x.shape
    chunks, tiles = partition(channels * height * width)
    moments = x.new_empty((frames, 3, chunks), dtype=torch.float32)
    grid = (frames * chunks,)
    sizes = (height * width, chunks, tiles)
    with torch.cuda.device_of(x):
        frame_moments_kernel[grid](x, moments, *sizes, CHANNELS=channels, BLOCK=BLOCK, **_LAUNCH)
        frame_norm_kernel[grid](
            x,
            moments,
            weight,
            bias,
            y,
            *sizes,
            eps,
            CHANNELS=channels,
            SILU=silu,
            MOST_CHUNKS=MOST_CHUNKS,
            BLOCK=BLOCK,
            **_LAUNCH,
        )


@torch.library.custom_op("cosmos_tokenizer::frame_norm", mutates_args=())
def _frame_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> Tensor:
    y = _empty_frames(x, weight, bias, eps, silu)
    x = x.contiguous(memory_format=torch.channels_last)
    norm_silu_into(y, x, weight.contiguous(), bias.contiguous(), eps=eps, silu=silu)
    return y


@_frame_norm.register_fake
def _empty_frames(x: Tensor, weight: Tensor, bias: Tensor, eps: float, silu: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def norm_silu(x_NCHW: Tensor, weight_C: Tensor, bias_C: Tensor, *, eps: float, silu: bool) -> Tensor:
    """See :func:`cosmos_tokenizer.frame_norm.norm_silu`; one group, channels last, no gradient."""
    return _frame_norm(x_NCHW, weight_C, bias_C, eps, silu)
