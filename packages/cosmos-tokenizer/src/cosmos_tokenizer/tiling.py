"""Large frames in overlapping tiles whose results are blended, so that memory follows the tile and not the frame.

Inside one tile everything is exact. Two things of arXiv 2501.03575, section 4.1, see a whole frame and now see a tile:
the statistics of the per-frame norms and the spatial attention of the middle blocks; the blend hides the seams.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.errors import InputError

Half = Callable[[Tensor, FrameCache | None], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiles:
    """Side of the square tiles and how far neighbours overlap, in pixels of the clip; rounded up to whole cells."""

    size: int = 512
    overlap: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise InputError(
                f"tiles of {self.size} pixels cannot overlap by {self.overlap}: give 0 up to below the size"
            )

    def in_cells(self, cell: int) -> tuple[int, int]:
        """Size and overlap in cells of ``cell`` pixels, the size at least one cell more than the overlap."""
        overlap = -(-self.overlap // cell)
        return max(-(-self.size // cell), overlap + 1), overlap


def run_in_tiles(half: Half, x: Tensor, cache: FrameCache | None, *, tile: int, overlap: int, zoom: Fraction) -> Tensor:
    """Run one half on tiles of ``x`` and blend what comes out, in float32 at least.

    Args:
        half: encoder or decoder network.
        x: ``B C T H W``.
        cache: of the whole frame; each tile keeps its own within.
        tile, overlap: in pixels or cells of ``x``.
        zoom: size of the result over that of ``x``.
    """
    height, width = x.shape[3:]
    corners = itertools.product(_starts(height, tile, overlap), _starts(width, tile, overlap))
    total, weights, kind = None, None, x.dtype
    for index, (top, left) in enumerate(corners):
        part = None if cache is None else cache.part(index)
        piece = half(x[..., top : top + tile, left : left + tile].contiguous(), part)
        if total is None or weights is None:
            kind, wide = piece.dtype, torch.promote_types(piece.dtype, torch.float32)
            total = piece.new_zeros(*piece.shape[:3], int(height * zoom), int(width * zoom), dtype=wide)
            weights = total.new_zeros(total.shape[3:])
        rows = slice(int(top * zoom), int(top * zoom) + piece.shape[3])
        columns = slice(int(left * zoom), int(left * zoom) + piece.shape[4])
        down, across = (_ramp(side, int(overlap * zoom), total) for side in piece.shape[3:])
        total[..., rows, columns] += piece * (down[:, None] * across)
        weights[rows, columns] += down[:, None] * across
    assert total is not None  # an axis has at least one start
    assert weights is not None
    return total.div_(weights).to(kind)


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin: all of one size, the last flush with the end."""
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def _ramp(size: int, overlap: int, like: Tensor) -> Tensor:
    """Weight along a tile: rises over the overlap, level, falls again; never zero, so frame borders keep theirs."""
    distance = torch.arange(1, size + 1, device=like.device, dtype=like.dtype)
    return torch.minimum(distance, distance.flip(0)).clamp(max=overlap + 1) / (overlap + 1)
