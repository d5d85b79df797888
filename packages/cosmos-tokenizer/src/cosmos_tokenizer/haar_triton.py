"""Haar wavelet patching as Triton kernels (arXiv 2501.03575, section 4.1): each element is read once and written once.

Two kernels, adjoint to each other, give both transforms and both gradients: `analyse` (``patch``, and the gradient of
``unpatch``) and `synthesise` (``unpatch``, and the gradient of ``patch``). Both are Walsh-Hadamard transforms of the
values of a patch, done by butterflies in float32 registers in the reference's order, so that in float32 the results are
the reference's bit for bit.

Bytes: at 720p and 49 bf16 frames `analyse` reads 271 MB and writes 288 MB (the repeated frame is written, not read),
for six additions an element at two levels: 1.5 FLOP a byte, where a GPU has 5 and more in float32. Only the order of
the accesses matters.

Tile: one program makes `W_BLOCK` patches that are neighbours along the width, of up to four channels. It reads
`patch_size` rows of each of `patch_size` frames, pixels that lie side by side, one row of one patch as a vector in one
thread. It writes `W_BLOCK` positions of `D` coefficients, which lie side by side in a channels-last tensor; three
channels interleave there, so they belong to one program, which pads them to four with lanes that touch no memory.
Between the two orders the tile is exchanged once through shared memory, in the dtype of the tensor: 8 or 16 KB.

Registers: 128 threads hold at most 64 values each and their addresses: 32 to 115 registers, so at least four programs
share a multiprocessor. For a patch of 4 frames they have 49 KB (bf16) or 98 KB (float32) on the way together, enough to
cover the memory's latency.
"""

# ruff: noqa: ANN001, ANN202 - the types of a kernel's arguments are those of its launch.

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.constexpr_function
def _slot(band, axes, patch):
    """Where pixel (frame, row, column), flattened, of index `band` stands: bits of a band run coarse to fine level."""
    at = [0, 0, 0]
    for level in range(patch.bit_length() - 1):
        for place, axis in enumerate((2, 1, 0) if axes == 3 else (1, 2)):
            at[axis] |= (band >> (level * axes + place) & 1) << level
    return (at[0] * patch + at[1]) * patch + at[2]


@triton.constexpr_function
def _band(slot, axes, patch):
    """Inverse of `_slot`."""
    return [_slot(band, axes, patch) for band in range(patch**axes)].index(slot)


@triton.constexpr_function
def _analysis_bit(step, axes):
    """The fine level first, and within a level the first axis first."""
    return 2 ** (step // axes * axes + axes - 1 - step % axes)


@triton.constexpr_function
def _synthesis_bit(step, axes, levels):
    """The reverse of `_analysis_bit`."""
    return 2 ** ((levels - 1 - step // axes) * axes + step % axes)


@triton.jit
@no_type_check
def _butterfly(v, BIT: tl.constexpr):
    out = ()
    for i in tl.static_range(len(v)):
        out = out + ((v[i] + v[i + BIT]) if i // BIT % 2 == 0 else (v[i - BIT] - v[i]),)
    return out


@triton.jit
@no_type_check
def _stack(v, LEVELS: tl.constexpr):
    """2**LEVELS tensors `A B` to one `A B 2 ... 2`, the index in binary; within a thread, no data moves."""
    for _ in tl.static_range(LEVELS):
        out = ()
        for i in tl.static_range(len(v) // 2):
            out = out + (tl.join(v[i], v[i + len(v) // 2]),)
        v = out
    return v[0]


@triton.jit
@no_type_check
def _unstack(x, LEVELS: tl.constexpr):
    """One tensor `A B N` to N = 2**LEVELS tensors `A B`."""
    v = (x,)
    for _ in tl.static_range(LEVELS):
        even = ()
        odd = ()
        for i in tl.static_range(len(v)):
            pair = tl.reshape(v[i], [x.shape[0], x.shape[1], x.shape[2] // len(v) // 2, 2])
            first, second = tl.split(pair)
            even = even + (first,)
            odd = odd + (second,)
        v = even + odd
    out = ()
    for i in tl.static_range(len(v)):
        out = out + (tl.reshape(v[i], [x.shape[0], x.shape[1]]),)
    return out


@triton.jit
@no_type_check
def _reflect(index, size, PATCH: tl.constexpr):
    """Sample behind `index` of an axis that is extended to whole patches: reflected at every level that is odd."""
    if PATCH == 4:
        index = tl.where(index >= (size + 1) // 2 * 2, index - 4, index)
    return tl.where(index >= size, 2 * size - 2 - index, index)


@triton.jit
@no_type_check
def _place(channels, t_size, h_size, w_size, C_BLOCK: tl.constexpr, W_BLOCK: tl.constexpr):
    """Which patches are this program's: tile along the width, row, group of frames, tile of channels, clip."""
    w_tiles = tl.cdiv(w_size, W_BLOCK)
    rest = tl.program_id(0)
    w_tile, rest = rest % w_tiles, rest // w_tiles
    h, rest = rest % h_size, rest // h_size
    t, rest = rest % t_size, rest // t_size
    c_tiles = tl.cdiv(channels, C_BLOCK)
    return w_tile, h, t, rest % c_tiles, (rest // c_tiles).to(tl.int64)


@triton.jit
@no_type_check
def haar_analyse_kernel(
    x_ptr,
    y_ptr,
    channels,
    frames,
    height,
    width,
    t_out,
    h_out,
    w_out,
    scale,
    x_stride_b,
    x_stride_c,
    x_stride_t,
    x_stride_h,
    x_stride_w,
    y_stride_b,
    y_stride_d,
    y_stride_t,
    y_stride_h,
    y_stride_w,
    PATCH: tl.constexpr,
    AXES: tl.constexpr,
    LEAD: tl.constexpr,
    RAGGED: tl.constexpr,
    C_BLOCK: tl.constexpr,
    W_BLOCK: tl.constexpr,
) -> None:
    """Pixels to coefficients: one program, `W_BLOCK` patches of `C_BLOCK` channels; see the top of this file."""
    BANDS: tl.constexpr = PATCH**AXES
    TIME: tl.constexpr = PATCH if AXES == 3 else 1
    AHEAD: tl.constexpr = 0 if LEAD == "none" else PATCH - 1
    w_tile, h, t, c_tile, b = _place(channels, t_out, h_out, w_out, C_BLOCK, W_BLOCK)

    c = c_tile * C_BLOCK + tl.arange(0, C_BLOCK)
    column = w_tile * (W_BLOCK * PATCH) + tl.arange(0, W_BLOCK * PATCH)
    inside = (c < channels)[:, None] & (column < w_out * PATCH)[None, :]
    if RAGGED:
        column = _reflect(column, width, PATCH)
    x = x_ptr + b * x_stride_b + (c.to(tl.int64) * x_stride_c)[:, None] + (column.to(tl.int64) * x_stride_w)[None, :]

    rows = ()
    for j in tl.static_range(PATCH):
        rows = rows + (_reflect(h * PATCH + j, height, PATCH).to(tl.int64) * x_stride_h,)
    pixels = ()
    for back in tl.static_range(TIME):
        # The last frame of a group comes first: it is the one that stands for those ahead of a clip.
        sample = t * TIME + TIME - 1 - back
        frame = tl.maximum(_reflect(sample, frames + AHEAD, PATCH) - AHEAD, 0) if AXES == 3 else sample
        group = ()
        for j in tl.static_range(PATCH):
            at = x + (frame.to(tl.int64) * x_stride_t + rows[j])
            line = tl.load(at, mask=inside & (sample >= AHEAD), other=0.0).to(tl.float32)
            group = group + _unstack(tl.reshape(line, [C_BLOCK, W_BLOCK, PATCH]), PATCH // 2)
        if LEAD == "repeat" and back > 0:
            repeated = ()
            for i in tl.static_range(PATCH * PATCH):
                repeated = repeated + (tl.where(sample < AHEAD, pixels[len(pixels) - PATCH * PATCH + i], group[i]),)
            group = repeated
        pixels = group + pixels

    v = ()
    for band in tl.static_range(BANDS):
        v = v + (pixels[_slot(band, AXES, PATCH)],)
    for step in tl.static_range(AXES * (PATCH // 2)):
        v = _butterfly(v, _analysis_bit(step, AXES))
    out = ()
    for band in tl.static_range(BANDS):
        out = out + ((v[band] * scale).to(y_ptr.dtype.element_ty),)

    w = w_tile * W_BLOCK + tl.arange(0, W_BLOCK)
    k = tl.arange(0, BANDS * C_BLOCK)
    c = c_tile * C_BLOCK + k % C_BLOCK
    d = k // C_BLOCK * channels + c
    tile = tl.permute(tl.reshape(_stack(out, AXES * (PATCH // 2)), [C_BLOCK, W_BLOCK, BANDS]), (1, 2, 0))
    y = y_ptr + (b * y_stride_b + t.to(tl.int64) * y_stride_t + h.to(tl.int64) * y_stride_h)
    y = y + (w.to(tl.int64) * y_stride_w)[:, None] + (d.to(tl.int64) * y_stride_d)[None, :]
    tl.store(y, tl.reshape(tile, [W_BLOCK, BANDS * C_BLOCK]), mask=(w < w_out)[:, None] & (c < channels)[None, :])


@triton.jit
@no_type_check
def haar_synthesise_kernel(
    y_ptr,
    x_ptr,
    channels,
    t_in,
    h_in,
    w_in,
    scale,
    y_stride_b,
    y_stride_d,
    y_stride_t,
    y_stride_h,
    y_stride_w,
    x_stride_b,
    x_stride_c,
    x_stride_t,
    x_stride_h,
    x_stride_w,
    PATCH: tl.constexpr,
    AXES: tl.constexpr,
    LEAD: tl.constexpr,
    C_BLOCK: tl.constexpr,
    W_BLOCK: tl.constexpr,
) -> None:
    """Coefficients to pixels, over the same tiles as `haar_analyse_kernel`."""
    BANDS: tl.constexpr = PATCH**AXES
    TIME: tl.constexpr = PATCH if AXES == 3 else 1
    AHEAD: tl.constexpr = 0 if LEAD == "none" else PATCH - 1
    w_tile, h, t, c_tile, b = _place(channels, t_in, h_in, w_in, C_BLOCK, W_BLOCK)

    w = w_tile * W_BLOCK + tl.arange(0, W_BLOCK)
    k = tl.arange(0, BANDS * C_BLOCK)
    c = c_tile * C_BLOCK + k % C_BLOCK
    d = k // C_BLOCK * channels + c
    y = y_ptr + (b * y_stride_b + t.to(tl.int64) * y_stride_t + h.to(tl.int64) * y_stride_h)
    y = y + (w.to(tl.int64) * y_stride_w)[:, None] + (d.to(tl.int64) * y_stride_d)[None, :]
    tile = tl.load(y, mask=(w < w_in)[:, None] & (c < channels)[None, :], other=0.0)
    bands = _unstack(tl.permute(tl.reshape(tile, [W_BLOCK, BANDS, C_BLOCK]), (2, 0, 1)), AXES * (PATCH // 2))

    v = ()
    for band in tl.static_range(BANDS):
        v = v + (bands[band].to(tl.float32) * scale,)
    for step in tl.static_range(AXES * (PATCH // 2)):
        v = _butterfly(v, _synthesis_bit(step, AXES, PATCH // 2))

    c = c_tile * C_BLOCK + tl.arange(0, C_BLOCK)
    column = w_tile * (W_BLOCK * PATCH) + tl.arange(0, W_BLOCK * PATCH)
    inside = (c < channels)[:, None] & (column < w_in * PATCH)[None, :]
    x = x_ptr + b * x_stride_b + (c.to(tl.int64) * x_stride_c)[:, None] + (column.to(tl.int64) * x_stride_w)[None, :]
    for i in tl.static_range(TIME):
        sample = t * TIME + i
        for j in tl.static_range(PATCH):
            line = ()
            for column_of in tl.static_range(PATCH):
                pixel = v[_band((i * PATCH + j) * PATCH + column_of, AXES, PATCH)]
                if LEAD == "sum" and i == TIME - 1:
                    # The frames ahead of a clip are copies of its first: what reached them belongs to it.
                    total = pixel
                    for other in tl.static_range(TIME - 1):
                        total = total + v[_band((other * PATCH + j) * PATCH + column_of, AXES, PATCH)]
                    pixel = tl.where(t == 0, total, pixel)
                line = line + (pixel,)
            values = tl.reshape(_stack(line, PATCH // 2), [C_BLOCK, W_BLOCK * PATCH]).to(x_ptr.dtype.element_ty)
            frame = (sample - AHEAD).to(tl.int64)
            row = (h * PATCH + j).to(tl.int64)
            tl.store(x + (frame * x_stride_t + row * x_stride_h), values, mask=inside & (sample >= AHEAD))


def blocks(channels: int, width: int, bands: int) -> tuple[int, int]:
    """(channels, positions along the width) of a program: 64 values a thread for 64 bands, at most 32 for fewer."""
    return min(4, _power_of_2(channels)), min(max(32, min(128, 1024 // bands)), _power_of_2(width))


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _programs(x: Tensor, y: Tensor, c_block: int, w_block: int) -> int:
    t, h, w = y.shape[2:]
    return x.shape[0] * -(-x.shape[1] // c_block) * t * h * -(-w // w_block)


def analyse_into(y: Tensor, x: Tensor, *, patch_size: int, axes: int, lead: str, scale: float) -> None:
    """Write into `y` (B D t h w) the transform of `x` (B C T H W), times `scale`; any strides.

    `lead` says what stands for the `patch_size - 1` frames ahead of the first: "repeat" it, "zero", or "none".
    """
    channels, frames, height, width = x.shape[1:]
    t, h, w = y.shape[2:]
    c_block, w_block = blocks(channels, w, patch_size**axes)
    programs = _programs(x, y, c_block, w_block)
    with torch.cuda.device_of(x):
        haar_analyse_kernel[(programs,)](
            x,
            y,
            channels,
            frames,
            height,
            width,
            t,
            h,
            w,
            scale,
            *x.stride(),
            *y.stride(),
            PATCH=patch_size,
            AXES=axes,
            LEAD=lead,
            RAGGED=width % patch_size != 0,
            C_BLOCK=c_block,
            W_BLOCK=w_block,
        )


def synthesise_into(x: Tensor, y: Tensor, *, patch_size: int, axes: int, lead: str, scale: float) -> None:
    """Write into `x` (B C T H W) the inverse transform of `y` (B D t h w), times `scale`; any strides.

    `lead` says what becomes of the `patch_size - 1` frames ahead of the first: "drop" them, "sum" them into it, or
    "none" are.
    """
    channels = x.shape[1]
    t, h, w = y.shape[2:]
    c_block, w_block = blocks(channels, w, patch_size**axes)
    programs = _programs(x, y, c_block, w_block)
    with torch.cuda.device_of(y):
        haar_synthesise_kernel[(programs,)](
            y,
            x,
            channels,
            t,
            h,
            w,
            scale,
            *y.stride(),
            *x.stride(),
            PATCH=patch_size,
            AXES=axes,
            LEAD=lead,
            C_BLOCK=c_block,
            W_BLOCK=w_block,
        )
