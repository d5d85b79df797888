"""Where a token stands: rotary angles in seconds and cells, and positions added before every block (section 5.1)."""

import math
from collections.abc import Hashable

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.nn import Rotation, axis_widths, frequencies, grid_angles, rotation

BASE_FPS = 24
"""Frames a second at which latent frames stand one position apart."""
EPSILON = 1e-6


class RotaryGrid(nn.Module):
    """Rotations of the tokens of a clip; views of it all have the same."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.by_fps = config.rope_fps
        self._ratios = tuple(zip(axis_widths(config.head_width), config.rope_ratio, strict=True))
        # Not a buffer, which would follow the weights into half precision.
        self._last: tuple[Hashable, Rotation] | None = None

    def forward(
        self, sizes: tuple[int, int, int], fps: int | float | None, *, views: int, device: torch.device, first: int = 0
    ) -> Rotation:
        """Cosine and sine, ``L H/2`` each; of the last grid they are kept.

        Args:
            sizes: frames of one view, rows and columns, in tokens.
            fps: of the video; None for pictures, whose frames count one each.
            views: how many stand one behind another.
            device: where to make it.
            first: index of the first frame, for a part of a clip.
        """
        if torch.compiler.is_compiling():  # a graph works them out, and keeps nothing between its runs
            return self._made(sizes, fps, views, device, first)
        grid = (sizes, fps, views, device, first)
        if self._last is None or self._last[0] != grid:
            with torch.inference_mode(False):  # what is kept may be used in training, too
                self._last = grid, self._made(*grid)
        return self._last[1]

    def _made(
        self, sizes: tuple[int, int, int], fps: int | float | None, views: int, device: torch.device, first: int
    ) -> Rotation:
        frames, rows, columns = (torch.arange(size, dtype=torch.float32, device=device) for size in sizes)
        frames = frames + first
        if self.by_fps and fps is not None:
            frames = frames / fps * BASE_FPS
        t, h, w = (frequencies(width, ratio, device=device) for width, ratio in self._ratios)
        return rotation(grid_angles((frames, rows, columns), (t, h, w)).repeat(views, 1))


class LearnedPosition(nn.Module):
    """Tables of each axis, summed and brought to root mean square 1."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        t, h, w = (size // patch for size, patch in zip(config.grid, config.patch, strict=True))
        self.t, self.h, self.w = (nn.Parameter(torch.empty(size, config.width)) for size in (t, h, w))
        for table in (self.t, self.h, self.w):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(
        self, sizes: tuple[int, int, int], *, views: int, device: torch.device, first: int = 0
    ) -> Float[Tensor, "1 L D"]:
        """Position of each token, the same in every view, in the dtype of the tables."""
        del device
        t, h, w = sizes
        e = self.t[first : first + t, None, None] + self.h[None, :h, None] + self.w[None, None, :w]
        norm = torch.linalg.vector_norm(e, dim=-1, keepdim=True, dtype=torch.float32) / math.sqrt(e.shape[-1])
        return repeat((e / (EPSILON + norm)).to(e.dtype), "t h w d -> 1 (v t h w) d", v=views)


class SineCosinePosition(nn.Module):
    """Fixed sines and cosines (arXiv 1706.03762), channels shared out between time, rows and columns."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self._widths = axis_widths(config.width)

    def forward(
        self, sizes: tuple[int, int, int], *, views: int, device: torch.device, first: int = 0
    ) -> Float[Tensor, "1 L D"]:
        """Position of each token, the same in every view, in float32."""
        parts = []
        for axis, (size, width) in enumerate(zip(sizes, self._widths, strict=True)):
            positions = torch.arange(size, dtype=torch.float32, device=device) + (first if axis == 0 else 0)
            angles = torch.outer(positions, frequencies(width, device=device))
            shape = [1, 1, 1, width]
            shape[axis] = size
            parts.append(torch.cat([angles.sin(), angles.cos()], dim=-1).view(shape).expand(*sizes, -1))
        return repeat(torch.cat(parts, dim=-1), "t h w d -> 1 (v t h w) d", v=views)
