"""Weights in eight bits, symmetric for each output channel; activations stay as they are. Runs on any device."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor, nn


class Int8Linear(nn.Module):
    """A linear layer at half the memory of bfloat16; each weight is off by half a step, 1/254 of its row's largest."""

    weight: Int8[Tensor, "O I"]
    scale: Float[Tensor, " O"]

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight_OI = layer.weight.detach().float()
        scale_O = (weight_OI.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.register_buffer("weight", (weight_OI / scale_O[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale_O.to(layer.weight.dtype))
        self.bias = layer.bias

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """``x W^T + b`` in the dtype of ``x``."""
        y = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)  # up to 127 is exact in bfloat16
        return y if self.bias is None else y + self.bias


def quantise(model: nn.Module) -> None:
    """Put an :class:`Int8Linear` in the place of every linear layer, one after another."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
