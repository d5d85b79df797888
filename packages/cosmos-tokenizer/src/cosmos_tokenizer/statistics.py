"""Mean and deviation of latents per channel and frame, by which diffusion models normalise (arXiv 2501.03575, 5.1)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LatentStatistics(nn.Module):
    """Statistics of continuous latents, measured on clips of ``F`` latent frames; kept in float32 beside any dtype.

    Latent frame 0 holds a single picture and differs clearly from the rest, so the statistics are kept per latent
    frame. A clip shorter than ``F`` uses the first rows. Beyond ``F`` (16 in the released nets) nothing was measured:
    the last row serves every later frame, since the statistics level off along the clip.

    Args:
        mean_CF, std_CF: ``C F`` each, std > 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean_CF: Float[Tensor, "C F"], std_CF: Float[Tensor, "C F"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean_CF.float())
        self.register_buffer("std", std_CF.float())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LatentStatistics":
        # The device follows the model, the dtype does not: statistics rounded to bfloat16 would shift every latent.
        self.mean, self.std = (value.to(fn(value).device) for value in (self.mean, self.std))
        return self

    def normalize(self, z_BCTHW: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B C t h w"]:
        """``(z - mean) / std``, in the dtype of ``z``."""
        mean, std = self._rows(z_BCTHW.shape[2])
        return ((z_BCTHW.float() - mean) / std).to(z_BCTHW.dtype)

    def denormalize(self, z_BCTHW: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B C t h w"]:
        """``z * std + mean``, in the dtype of ``z``."""
        mean, std = self._rows(z_BCTHW.shape[2])
        return (z_BCTHW.float() * std + mean).to(z_BCTHW.dtype)

    def _rows(self, frames: int) -> tuple[Tensor, Tensor]:
        row = torch.arange(frames, device=self.mean.device).clamp(max=self.mean.shape[1] - 1)
        return self.mean[None, :, row, None, None], self.std[None, :, row, None, None]
