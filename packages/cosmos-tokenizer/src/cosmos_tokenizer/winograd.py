"""Winograd convolution F(4x4, 3x3) on CPU (Lavin and Gray, arXiv 1509.09308), for inference.

A tile of 4x4 outputs costs 36 products a channel pair instead of 144, and the rest is small matrix products and copies.
The interpolation points 0, +-1, 1/2, -2 keep float32 as exact as a direct convolution (Barabasz et al., arXiv
1803.10986); the usual 0, +-1, +-2 lose a digit.
"""

import functools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

_TILE = 4
_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))
_NARROWEST = 48
"""Below this many channels, transforms cost more than the products that they save."""
_FEWEST = 1024
"""Below this many pixels, transforming the kernels costs more than the products that they save."""
_BLOCK = 1 << 15
"""Tiles times channels that go through at once: buffers of about 5 MB, which stay in cache."""
_SMALL = 1 << 16
"""Up to so many tiles times channels go through in one block, and then the transformed kernels need not be kept."""
_KERNEL_BYTES = 1 << 23
"""Largest piece of transformed kernels: an allocator hands large ones out as fresh, unmapped pages at every call."""


def pays(x_NCHW: Tensor, weight_OIHW: Tensor) -> bool:
    """Whether :func:`conv2d` takes these arguments and is faster than the direct convolution in float32, stride 1."""
    return (
        x_NCHW.device.type == "cpu"
        and weight_OIHW.shape[2:] == (3, 3)
        and min(weight_OIHW.shape[:2]) >= _NARROWEST
        and x_NCHW[:, 0].numel() >= _FEWEST
        and x_NCHW.dtype in (torch.float32, torch.bfloat16, torch.float16)
    )


def conv2d(
    x_NCHW: Tensor,
    weight_OIHW: Tensor,
    bias_O: Tensor,
    padding: int,
    before: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """2-D convolution of stride 1 with zero padding, computed in float32, result channels-last in the dtype of ``x``.

    Args:
        x_NCHW: input on CPU.
        weight_OIHW: kernels of 3x3.
        bias_O: added to every output.
        padding: zeros on each side.
        before: done to each frame first, so that its result never stands in memory for all frames.
    """
    count, channels, height, width = x_NCHW.shape
    outputs, _, kernel, _ = weight_OIHW.shape
    out_height, out_width = (side + 2 * padding - kernel + 1 for side in (height, width))
    rows, columns = -(-out_height // _TILE), -(-out_width // _TILE)
    span = _TILE + kernel - 1
    inputs_KK, kernels_PR, outputs_MK = _transforms(kernel)
    points = span**2

    padded_HWC = x_NCHW.new_zeros(rows * _TILE + kernel - 1, columns * _TILE + kernel - 1, channels)
    inside_HWC = padded_HWC[padding : padding + height, padding : padding + width]
    h, w, c = padded_HWC.stride()
    windows = padded_HWC.as_strided((span, span, rows, columns, channels), (h, w, h * _TILE, w * _TILE, c))
    out_NHWC = x_NCHW.new_empty(count, rows * _TILE, columns * _TILE, outputs)
    out = out_NHWC.view(count, rows, _TILE, columns, _TILE, outputs).permute(0, 2, 4, 1, 3, 5)
    bias = bias_O.float()

    per_row = columns * channels
    at_once = count * rows if count * rows * per_row <= _SMALL else min(rows, max(1, _BLOCK // per_row))
    blocks = list(_blocks(count, rows, at_once))
    pieces = _transformed(weight_OIHW.float(), kernels_PR)
    pieces = list(pieces) if len(blocks) > 1 else pieces
    # Two buffers serve every block in turn.
    room = (2, points * at_once * columns * max(channels, outputs))
    first, second = torch.empty(room, dtype=torch.float32, device=x_NCHW.device).unbind()
    loaded = -1
    for block in blocks:
        tile_rows = sum(stop - start for _, start, stop in block)
        tiles, done = tile_rows * columns, 0
        gathered = _view(first, span, span, tile_rows, columns, channels)
        for frame, start, stop in block:
            if frame != loaded:
                ready = x_NCHW[frame : frame + 1] if before is None else before(x_NCHW[frame : frame + 1])
                inside_HWC.copy_(ready[0].permute(1, 2, 0))
                loaded = frame
            gathered[:, :, done : done + stop - start].copy_(windows[:, :, start:stop])
            done += stop - start
        _along_both_axes(inputs_KK, first, second, tiles * channels)
        inputs, products = _view(first, points, tiles, channels), _view(second, points, tiles, outputs)
        point = 0
        for piece_KIO in pieces:
            of = slice(point, point + len(piece_KIO))
            torch.bmm(inputs[of], piece_KIO, out=products[of])
            point = of.stop
        _along_both_axes(outputs_MK, second, first, tiles * outputs)
        finished, done = _view(second, _TILE, _TILE, tile_rows, columns, outputs).add_(bias), 0
        for frame, start, stop in block:
            out[frame, :, :, start:stop].copy_(finished[:, :, done : done + stop - start])
            done += stop - start
    return out_NHWC[:, :out_height, :out_width].contiguous().permute(0, 3, 1, 2)


def _blocks(count: int, rows: int, at_once: int) -> Iterator[list[tuple[int, int, int]]]:
    """Tile rows that go through together: frame, first row and the row behind the last."""
    if at_once == count * rows:
        yield [(frame, 0, rows) for frame in range(count)]
        return
    for frame in range(count):
        for start in range(0, rows, at_once):
            yield [(frame, start, min(rows, start + at_once))]


def _along_both_axes(matrix_MK: Tensor, data: Tensor, spare: Tensor, width: int) -> None:
    """Transform ``K K width`` values at the start of ``data`` to ``M M width`` in place."""
    to, size = matrix_MK.shape
    torch.mm(matrix_MK, _view(data, size, size * width), out=_view(spare, to, size * width))
    torch.bmm(matrix_MK.expand(to, to, size), _view(spare, to, size, width), out=_view(data, to, to, width))


def _view(buffer: Tensor, *shape: int) -> Tensor:
    """The first elements of a flat buffer in this shape."""
    return buffer[: math.prod(shape)].view(shape)


def _transformed(weight_OIHW: Tensor, kernels_PR: Tensor) -> Iterator[Tensor]:
    """Kernels at every point, ``I O`` matrices, in pieces of bounded size."""
    outputs, inputs = weight_OIHW.shape[:2]
    taps_RN = weight_OIHW.reshape(outputs * inputs, -1).T
    count = max(1, _KERNEL_BYTES // (4 * outputs * inputs))
    return ((rows @ taps_RN).view(-1, outputs, inputs).mT for rows in kernels_PR.split(count))


@functools.cache
def _transforms(kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of inputs and outputs along one axis, and of kernels along both, in float32."""
    inputs_KK, kernels_KR, outputs_MK = _toom_cook(_TILE, kernel)
    return inputs_KK.float(), torch.kron(kernels_KR, kernels_KR).float(), outputs_MK.float()


def _toom_cook(tile: int, kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """``B^T``, ``G`` and ``A^T`` of ``y = A^T [(G g) * (B^T d)]``, exact fractions until the end."""
    points = _POINTS[: tile + kernel - 2]
    size = len(points) + 1
    values = [[point**power for power in range(size)] for point in points]
    infinity = [Fraction(0)] * size
    kernels, outputs, inputs = [], [], []
    for i, point in enumerate(points):
        others = [other for j, other in enumerate(points) if j != i]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        kernels.append([value / scale for value in values[i][:kernel]])
        outputs.append(values[i][:tile])
        inputs.append([*_product(others), Fraction(0)])
    for rows, width in ((kernels, kernel), (outputs, tile)):
        rows.append([*infinity[: width - 1], Fraction(1)])
    inputs.append(_product(list(points)))
    matrices = [
        torch.tensor([[float(x) for x in row] for row in rows], dtype=torch.float64, device="cpu")
        for rows in (inputs, kernels, outputs)
    ]
    return matrices[0], matrices[1], matrices[2].T


def _product(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients
