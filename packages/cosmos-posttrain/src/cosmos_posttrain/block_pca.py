"""Block PCA: principal components of blocks of pixels, the linear baseline of a tokenizer with as small a latent.

Blocks lie as a causal tokenizer's latents do: frame 0 alone fills the first block in time, later frames come in groups
of the block's length. `fit_levels` adds scalar quantisers (Lloyd 1982, Max 1960), which makes it the baseline of a
discrete tokenizer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from cosmos_tokenizer import InputError

ALL_AT_ONCE = 1024
"""Largest matrix of which all eigenvectors are computed for the sake of a few."""

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Frames, and rows and columns, of one block: a tokenizer's temporal and spatial compression."""

    time: int
    space: int

    @property
    def size(self) -> int:
        """Samples, over the three colours."""
        return 3 * self.time * self.space**2

    def check(self, channels: int, frames: int, height: int, width: int) -> None:
        """Raise InputError where a clip is not of whole blocks."""
        if channels != 3 or (frames - 1) % self.time or height % self.space or width % self.space:
            raise InputError(
                f"block PCA takes 3 channels, 1 + {self.time}n frames and sides of {self.space}n; "
                f"got {channels} channels and {frames} frames of {height}x{width}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPCA:
    """Coefficients of a block are its differences from `mean` projected on `basis`; samples are in [-1, 1]."""

    block: Block
    mean: Float64[Array, " D"]
    basis: Float64[Array, "D K"]
    """Orthonormal columns, largest variance first."""
    levels: tuple[Float64[Array, " _"], ...] = ()
    """The values each coefficient is rounded to, ascending; empty leaves coefficients as they are."""

    def coefficients(self, blocks: Float64[Array, "N D"]) -> Float64[Array, "N K"]:
        """Coefficients of flattened blocks."""
        return (blocks - self.mean) @ self.basis

    def quantise(self, values: Float64[Array, "N K"]) -> Float64[Array, "N K"]:
        """Coefficients rounded to their levels, or as they are where there are none."""
        if not self.levels:
            return values
        return np.stack([nearest(values[:, k], grid) for k, grid in enumerate(self.levels)], axis=1)

    def reconstruct(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Return the video after projection (and rounding), not clamped. It must be of whole blocks."""
        blocks, grid = to_blocks(video, self.block), video.shape
        rebuilt = self.quantise(self.coefficients(blocks)) @ self.basis.T + self.mean
        return from_blocks(rebuilt, grid, self.block).to(video.dtype)

    def save(self, path: Path | str) -> None:
        """Write an npz file that :func:`load` reads."""
        arrays = {f"levels_{k}": grid for k, grid in enumerate(self.levels)}
        block = np.array([self.block.time, self.block.space])
        np.savez(path, allow_pickle=False, block=block, mean=self.mean, basis=self.basis, **arrays)


def load(path: Path | str) -> BlockPCA:
    """Read what :meth:`BlockPCA.save` wrote."""
    with np.load(path) as stored:
        count = sum(name.startswith("levels_") for name in stored.files)
        levels = tuple(stored[f"levels_{k}"] for k in range(count))
        time, space = map(int, stored["block"])
        return BlockPCA(block=Block(time=time, space=space), mean=stored["mean"], basis=stored["basis"], levels=levels)


def to_blocks(video: Float[Tensor, "B C T H W"], block: Block) -> Float64[Array, "N D"]:
    """One row per block, ordered by clip, time, row, column. Frame 0 is repeated to fill its block."""
    _, channels, frames, height, width = video.shape
    block.check(channels, frames, height, width)
    padded = torch.cat([video[:, :, :1].expand(-1, -1, block.time - 1, -1, -1), video], dim=2).double()
    sizes = {"p": block.time, "q": block.space, "r": block.space}
    return rearrange(padded, "b c (t p) (h q) (w r) -> (b t h w) (c p q r)", **sizes).numpy()


def from_blocks(blocks: Float64[Array, "N D"], shape: torch.Size, block: Block) -> Float64[Tensor, "B C T H W"]:
    """Undo `to_blocks` for a video of that shape; frame 0 is the mean of its block's frames, the best guess."""
    batch, _, frames, height, width = shape
    time, space = block.time, block.space
    padded = rearrange(
        torch.from_numpy(blocks),
        "(b t h w) (c p q r) -> b c (t p) (h q) (w r)",
        **{"b": batch, "t": (frames - 1) // time + 1, "h": height // space, "w": width // space},
        **{"c": 3, "p": time, "q": space, "r": space},
    )
    return torch.cat([padded[:, :, :time].mean(dim=2, keepdim=True), padded[:, :, time:]], dim=2)


def sample_blocks(
    clips: UInt8[Array, "N T H W 3"],
    per_clip: int,
    rng: np.random.Generator,
    block: Block,
    *,
    seen: Callable[[float], None] = lambda share: None,
) -> Float64[Array, "M D"]:
    """`per_clip` random blocks of every clip, on the grid that `to_blocks` uses; `seen` is told each clip's share."""
    _, frames, height, width, channels = clips.shape
    block.check(channels, frames, height, width)
    rows = np.empty((len(clips), per_clip, block.size))
    for clip, row in zip(clips, rows, strict=True):
        padded = np.concatenate([clip[:1].repeat(block.time - 1, axis=0), clip])
        sizes = {"p": block.time, "q": block.space, "r": block.space}
        blocks = rearrange(padded, "(t p) (h q) (w r) c -> t h w c p q r", **sizes)
        chosen = tuple(rng.integers(0, size, size=per_clip) for size in blocks.shape[:3])
        row[:] = blocks[chosen].reshape(per_clip, block.size)
        seen(1 / len(clips))
    rows = rows.reshape(-1, block.size)
    rows /= 127.5
    rows -= 1
    return rows


def fit(blocks: Float64[Array, "M D"], block: Block, *, components: int) -> BlockPCA:
    """The `components` directions of largest variance. `blocks` come from `sample_blocks`."""
    if not 0 < components <= blocks.shape[1]:
        raise InputError(f"components {components} must be in 1..{blocks.shape[1]}")
    mean = blocks.mean(axis=0)
    covariance = blocks.T @ blocks / len(blocks) - np.outer(mean, mean)
    return BlockPCA(block=block, mean=mean, basis=leading(covariance, components))


def leading(covariance: Float64[Array, "D D"], count: int) -> Float64[Array, "D K"]:
    """Eigenvectors of the largest eigenvalues, largest first."""
    size = len(covariance)
    if size <= ALL_AT_ONCE:
        return np.ascontiguousarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :count])
    first = torch.randn(size, count, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    return torch.lobpcg(torch.from_numpy(covariance), X=first, tol=1e-9, niter=1000)[1].numpy()


def fit_levels(pca: BlockPCA, blocks: Float64[Array, "M D"], counts: Sequence[int]) -> BlockPCA:
    """Give each coefficient its own least-squares quantiser; `counts` is levels each, in the basis' order."""
    if len(counts) != pca.basis.shape[1]:
        raise InputError(f"{len(counts)} level counts for {pca.basis.shape[1]} components; give one each")
    values = pca.coefficients(blocks)
    return replace(pca, levels=tuple(lloyd_max(values[:, k], count) for k, count in enumerate(counts)))


def lloyd_max(values: Float64[Array, " N"], count: int) -> Float64[Array, " L"]:
    """`count` ascending levels of least squared error, the better of two starts: the optimum is local."""
    ordered = np.sort(values)
    middle = (np.arange(count) + 0.5) / count
    low, high = np.quantile(ordered, [0.005, 0.995])
    found = [refine(ordered, start) for start in (np.quantile(ordered, middle), low + (high - low) * middle)]
    return min(found, key=lambda grid: float(np.square(ordered - nearest(ordered, grid)).mean()))


def refine(ordered: Float64[Array, " N"], levels: Float64[Array, " L"]) -> Float64[Array, " L"]:
    """Lloyd's iteration on sorted values until no level moves by more than a millionth of their range."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    limit = 1e-6 * (ordered[-1] - ordered[0])
    for _ in range(10_000):
        edges = np.searchsorted(ordered, (levels[:-1] + levels[1:]) / 2)
        bounds = np.concatenate([[0], edges, [len(ordered)]])
        members = np.diff(bounds)
        moved = np.where(members > 0, np.diff(sums[bounds]) / np.maximum(members, 1), levels)
        if np.abs(moved - levels).max() <= limit:
            return moved
        levels = moved
    return levels


def nearest(values: Float64[Array, " N"], grid: Float64[Array, " L"]) -> Float64[Array, " N"]:
    """Each value's nearest entry of an ascending grid."""
    return grid[np.searchsorted((grid[:-1] + grid[1:]) / 2, values)]
