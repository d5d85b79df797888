"""Latents of pictures and of videos brought to one scale, each by statistics of their own (arXiv 2501.03575, 5.1)."""

from copy import deepcopy

from jaxtyping import Float
from torch import Tensor, nn

from cosmos_tokenizer import LatentStatistics


class Domains(nn.Module):
    """Statistics of video latents, for each frame, and of picture latents, which are those of no video's first frame.

    Args:
        video, picture: statistics.
        sigma_data: deviation that the network's data have, ``Preconditioning.sigma_data``.
    """

    def __init__(self, *, video: LatentStatistics, picture: LatentStatistics, sigma_data: float) -> None:
        super().__init__()
        self.video, self.sigma_data = video, sigma_data
        self.picture = deepcopy(picture) if picture is video else picture  # a file holds no tensor twice

    def to_data(self, latents: Float[Tensor, "B C T H W"], *, picture: bool = False) -> Float[Tensor, "B C T H W"]:
        """``sigma_data (z - mean) / std``; a clip's first frames alone are video too, not pictures."""
        return self.sigma_data * self._of(picture).normalize(latents)

    def to_latents(self, data: Float[Tensor, "B C T H W"], *, picture: bool = False) -> Float[Tensor, "B C T H W"]:
        """``data std / sigma_data + mean``, as the tokenizer takes it."""
        return self._of(picture).denormalize(data / self.sigma_data)

    def _of(self, picture: bool) -> LatentStatistics:
        return self.picture if picture else self.video
