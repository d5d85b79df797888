"""Blocks of cells and frames as rows, their principal components, and least-squares fits of convolutions to them."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-4
"""Penalty on squared weights of a fit, as a share of the features' mean square."""
ROWS = 150_000
"""Positions that a fit of a convolution sees at most."""
PART = 16384
"""Rows that are in double precision at a time."""


def rows(x_BTKHW: Float[Tensor, "B T K H W"]) -> Float[Tensor, "N K"]:
    """Every position a row."""
    return rearrange(x_BTKHW, "b t k h w -> (b t h w) k")


def frame_groups(x_BTKHW: Float[Tensor, "B T K H W"], count: int) -> Float[Tensor, "B t {count} K H W"]:
    """Frames in groups, as causal layers join them: the first is the first frame, repeated."""
    padded = torch.cat([x_BTKHW[:, :1]] * (count - 1) + [x_BTKHW], dim=1)
    return rearrange(padded, "b (t p) k h w -> b t p k h w", p=count)


def blocks(x_BTKHW: Float[Tensor, "B T K H W"], *, time: int = 1, space: int = 1) -> Float[Tensor, "N D"]:
    """Blocks of ``time x space x space`` positions as rows, frame by frame, row by row, then column by column."""
    groups = frame_groups(x_BTKHW, time)
    return rearrange(groups, "b t p k (h i) (w j) -> (b t h w) (p i j k)", i=space, j=space)


def principal(x_ND: Float[Tensor, "N D"], most: int) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K"]]:
    """Leading principal axes of centred rows, as rows, at most ``most``, and the deviation along each."""
    gram = torch.zeros(x_ND.shape[1], x_ND.shape[1], dtype=torch.double)
    for part in x_ND.split(PART):
        wide = part.double()
        gram += wide.T @ wide
    values, vectors = torch.linalg.eigh(gram / len(x_ND))
    order = values.argsort(descending=True)[:most]
    return vectors[:, order].T.float(), values[order].clamp_min(1e-12).sqrt().float()


def ridge(
    features: Iterable[Float[Tensor, "L N"]], targets: Iterable[Float[Tensor, "L K"]]
) -> tuple[Float[Tensor, "K N"], Float[Tensor, "K"]]:
    """Weights and biases that take features, a piece at a time, nearest to targets."""
    gram, cross, seen = torch.zeros(()), torch.zeros(()), 0
    for x_LN, y_LK in zip(features, targets, strict=True):
        x = F.pad(x_LN, (0, 1), value=1.0).double()
        gram, cross = gram + x.T @ x, cross + x.T @ y_LK.double()
        seen += len(x)
        if seen >= ROWS:
            break
    diagonal = gram.diagonal().mean() * RIDGE
    fit_KN = torch.linalg.solve(gram + diagonal * torch.eye(len(gram), dtype=torch.double), cross).T.float()
    return fit_KN[:, :-1], fit_KN[:, -1]
