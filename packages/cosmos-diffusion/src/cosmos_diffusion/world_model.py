"""A diffusion world model: the network, and what its output means at a noise level (arXiv 2501.03575, section 5.1)."""

from torch import nn

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.network import DiT
from cosmos_diffusion.uncertainty import Uncertainty


class WorldModel(nn.Module):
    """The network with its preconditioning; one class for training and inference.

    Args:
        config: of the network.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.net = DiT(config)
        self.uncertainty = Uncertainty()

    @property
    def config(self) -> DiTConfig:
        """Of the network."""
        return self.net.config
