"""The noise level's way into a block: AdaLN with low-rank modulations (arXiv 2501.03575, section 5.1; 2212.09748)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.nn import Linear, RMSNorm


class NoiseLevel(NamedTuple):
    """What every modulation of a step is made from; ``t`` is 1, or the latent frames where each has a level."""

    embedding: Float[Tensor, "B t D"]
    shared: Float[Tensor, "B t 3*D"]


class NoiseEmbedding(nn.Module):
    """``c_noise`` to sines and cosines, and from those to both branches; an action is added to one or both."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.width
        self.width, self.branch = width, config.action_branch
        self.up, self.down = Linear(width, width), Linear(width, 3 * width)
        self.norm = RMSNorm(width)
        numbers = config.action_numbers
        self.action_shared = ActionMLP(numbers, width, 3 * width) if numbers else None
        self.action_embedding = ActionMLP(numbers, width, width) if numbers else None

    def forward(
        self, c_noise_Bt: Float[Tensor, "B t"], action_BA: Float[Tensor, "B A"] | None, dtype: torch.dtype
    ) -> NoiseLevel:
        """Both branches in ``dtype``."""
        half = self.width // 2
        steps = torch.arange(half, dtype=torch.float32, device=c_noise_Bt.device)
        angles = c_noise_Bt.float()[..., None] * torch.exp(-math.log(10000.0) * steps / half)
        waves_BtD = torch.cat([angles.cos(), angles.sin()], dim=-1).to(dtype)
        shared = self.down(F.silu(self.up(waves_BtD)))
        if self.action_shared is not None and self.action_embedding is not None and action_BA is not None:
            shared = shared + self.action_shared(action_BA.to(dtype))[:, None]
            if self.branch == "both":
                waves_BtD = waves_BtD + self.action_embedding(action_BA.to(dtype))[:, None]
        return NoiseLevel(embedding=self.norm(waves_BtD), shared=shared)


class ActionMLP(nn.Module):
    """An action to what it adds to a branch; zero at first, so that a fine-tune begins with what it had."""

    def __init__(self, numbers: int, width: int, outputs: int) -> None:
        super().__init__()
        self.up, self.down = Linear(numbers, 4 * width, bias=True), Linear(4 * width, outputs, bias=True)

    def forward(self, action_BA: Float[Tensor, "B A"]) -> Float[Tensor, "B D"]:
        """``down(gelu(up(a)))`` with the tanh form of GELU."""
        return self.down(F.gelu(self.up(action_BA), approximate="tanh"))


class Modulation(nn.Module):
    """Two or three vectors a level: shift, scale and, before a residual, gate."""

    def __init__(self, config: DiTConfig, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.down = Linear(config.width, config.adaln_rank)
        self.up = Linear(config.adaln_rank, parts * config.width)

    def forward(self, level: NoiseLevel) -> Float[Tensor, "parts B t 1 D"]:
        """The vectors, with an axis for the tokens of a frame."""
        vectors = self.up(self.down(F.silu(level.embedding)))
        vectors = vectors + level.shared[..., : vectors.shape[-1]]
        return vectors.unflatten(-1, (self.parts, -1)).movedim(-2, 0).unsqueeze(-2)
