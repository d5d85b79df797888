"""How hard a noise level is, learned beside the network (arXiv 2312.02696, equation 21; 2501.03575, section 5.1)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

FEATURES = 128


class Uncertainty(nn.Module):
    """Logarithm of the expected loss at a noise level: one linear layer on fixed random Fourier features of it."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(FEATURES))
        self.register_buffer("phases", 2 * math.pi * torch.rand(FEATURES))
        self.linear = nn.Linear(FEATURES, 1, bias=False)

    def forward(self, c_noise: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """``u = w . sqrt(2) cos(f c_noise + p)`` in float32, with ``f`` of ``2 pi N(0, 1)`` and ``p`` in [0, 2 pi)."""
        waves = torch.cos(c_noise.float()[..., None] * self.frequencies + self.phases) * math.sqrt(2)
        return self.linear(waves.to(self.linear.weight.dtype))[..., 0].float()
