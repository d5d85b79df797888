"""AutoShot's network as its search found it (arXiv 2304.06116, section 3), written anew after the authors' code.

The authors' code, github.com/wentaozhu/AutoShot, is Copyright (c) 2023 Wentao Zhu, MIT licence. Imported for exporting
only: torch comes with it.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

LOOKUP = 101
"""Neighbours that a frame is compared with, itself in the middle."""
BINS = 512


class Block(nn.Module):
    """A 2D convolution within frames and 1D ones over time at dilations 1, 2, 4, ..., then norm and ReLU.

    Args:
        c: channels in.
        filters: a quarter of the channels out.
        multiplier: channels of the 2D convolution, as multiples of `filters`.
        dilations: how many.
        shared: one 2D convolution for all dilations, or one for each.
    """

    def __init__(self, c: int, filters: int, multiplier: int, dilations: int, *, shared: bool) -> None:
        super().__init__()
        middle, out = multiplier * filters, 4 * filters
        share = out // dilations
        widths = [share] * (dilations - 1) + [out - share * (dilations - 1)]
        self.spatial = nn.ModuleList(
            nn.Conv3d(c, middle, (1, 3, 3), padding=(0, 1, 1), bias=False) for _ in range(1 if shared else dilations)
        )
        self.temporal = nn.ModuleList(
            nn.Conv3d(middle, width, (3, 1, 1), padding=(2**i, 0, 0), dilation=(2**i, 1, 1), bias=False)
            for i, width in enumerate(widths)
        )
        self.norm = nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D T H W"]:
        seen = [conv(x) for conv in self.spatial]
        if len(seen) == 1:
            seen *= len(self.temporal)
        return functional.relu(
            self.norm(torch.cat([conv(s) for conv, s in zip(self.temporal, seen, strict=True)], dim=1))
        )


class Similarity(nn.Module):
    """Cosines of each frame's vector to those of the 101 frames around it, through one linear layer."""

    def __init__(self, c: int | None) -> None:
        super().__init__()
        self.projection = None if c is None else nn.Linear(c, 128)
        self.out = nn.Linear(LOOKUP, 128)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T D"]:
        if self.projection is not None:
            x = self.projection(x)
        x = functional.normalize(x, dim=2)
        cosines = functional.pad(x @ x.transpose(1, 2), (LOOKUP // 2, LOOKUP // 2))
        around = torch.arange(x.shape[1])[:, None] + torch.arange(LOOKUP)[None]
        return functional.relu(self.out(cosines.gather(2, around.expand(len(x), -1, -1))))


def histograms(frames: UInt8[Tensor, "B T H W 3"]) -> Float[Tensor, "B T bins"]:
    """Return how many pixels of each frame fall in each of 8 x 8 x 8 bins of colour."""
    red, green, blue = (frames.int() >> 5).flatten(2, 3).unbind(-1)
    bins = ((red << 6) + (green << 3) + blue).long()
    counts = torch.zeros((*bins.shape[:2], BINS))
    return counts.scatter_add(2, bins, torch.ones_like(bins, dtype=counts.dtype))


class AutoShot(nn.Module):
    """Windows of frames to each frame's probability of belonging to a transition."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Block(3, 16, 1, 4, shared=False),
                Block(64, 16, 4, 5, shared=True),
                Block(64, 32, 4, 5, shared=True),
                Block(128, 32, 4, 5, shared=True),
                Block(128, 64, 3, 5, shared=False),
                Block(256, 64, 2, 5, shared=False),
            ]
        )
        self.frames = Similarity(64 + 128 + 256)
        self.colors = Similarity(None)
        self.hidden = nn.Linear(128 + 128 + 256 * 3 * 6, 1024)
        self.cut = nn.Linear(1024, 1)

    def forward(self, frames: UInt8[Tensor, "1 T 27 48 3"]) -> Float[Tensor, "T"]:
        x = frames.permute(0, 4, 1, 2, 3).float() / 255
        means = []
        for one, other in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = one(x)
            x = functional.avg_pool3d(x + other(x), (1, 2, 2))
            means.append(x.mean(dim=(3, 4)))
        parts = [
            self.colors(histograms(frames)),
            self.frames(torch.cat(means, dim=1).transpose(1, 2)),
            x.permute(0, 2, 3, 4, 1).flatten(2),
        ]
        return torch.sigmoid(self.cut(functional.relu(self.hidden(torch.cat(parts, dim=2)))))[0, :, 0]


_NAMES = (
    (r"Layer_(\d)_\d+\.share\.", r"blocks.\1.spatial.0."),
    (r"Layer_([123])_\d+\.conv_blocks\.(\d)\.layers\.0\.", r"blocks.\1.temporal.\2."),
    (r"Layer_(\d)_\d+\.conv_blocks\.(\d)\.layers\.0\.", r"blocks.\1.spatial.\2."),
    (r"Layer_(\d)_\d+\.conv_blocks\.(\d)\.layers\.1\.", r"blocks.\1.temporal.\2."),
    (r"Layer_(\d)_\d+\.batch_norm\.", r"blocks.\1.norm."),
    (r"frame_sim_layer\.projection\.linear\.", "frames.projection."),
    (r"frame_sim_layer\.fc\.linear\.", "frames.out."),
    (r"color_hist_layer\.fc\.linear\.", "colors.out."),
    (r"fc1_0\.linear\.", "hidden."),
    (r"cls_layer1\.linear\.", "cut."),
)
_UNUSED = ("fc1.", "cls_layer2.")
"""Trained beside the network: a wider hidden layer of the search, and the head of all frames of a transition."""


def renamed(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of `AutoShot` in the authors' checkpoint; names that it does not know stay as they are."""
    out = {}
    for name, value in checkpoint["net"].items():
        if name.startswith(_UNUSED):
            continue
        for pattern, ours in _NAMES:
            if re.match(pattern, name):
                out[re.sub(f"^{pattern}", ours, name)] = value
                break
        else:
            out[name] = value
    return out
