"""Convolutions over space or over time alone as 2-D ones, for which onnxruntime has faster kernels than for 3-D.

Only the process that exports a network imports this, with torch.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Spatial(nn.Module):
    """A 3-D convolution that sees one frame at a time."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias, self.padding = nn.Parameter(conv.weight[:, :, 0]), conv.bias, conv.padding[1:]

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D S Y X"]:
        batch, _, time, _, _ = x.shape
        frames = x.transpose(1, 2).flatten(0, 1)
        out = nn.functional.conv2d(frames, self.weight, self.bias, padding=self.padding)  # pyright: ignore
        return out.unflatten(0, (batch, time)).transpose(1, 2)


class Temporal(nn.Module):
    """A 3-D convolution that sees one pixel at a time."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(conv.weight[..., 0]), conv.bias
        self.padding, self.dilation = (conv.padding[0], 0), (conv.dilation[0], 1)

    def forward(self, x: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B D S Y X"]:
        lines = x.flatten(3)
        out = nn.functional.conv2d(lines, self.weight, self.bias, padding=self.padding, dilation=self.dilation)  # pyright: ignore
        return out.unflatten(3, x.shape[3:])


def flatten_convolutions(network: nn.Module) -> None:
    """Put 2-D convolutions in the place of a network's 3-D ones wherever these see space or time alone."""
    with torch.no_grad():
        for name, part in list(network.named_modules()):
            if isinstance(part, nn.Conv3d) and _is_plain(part):
                network.set_submodule(name, Spatial(part) if part.kernel_size[0] == 1 else Temporal(part))


def _is_plain(conv: nn.Conv3d) -> bool:
    zeros = conv.padding_mode == "zeros" and isinstance(conv.padding, tuple)
    if not zeros or conv.groups != 1 or conv.stride != (1, 1, 1):
        return False
    time, *space = zip(conv.kernel_size, conv.padding, conv.dilation, strict=True)
    alone = (1, 0, 1)
    return (time == alone and all(axis[2] == 1 for axis in space)) or all(axis == alone for axis in space)
