"""Perceptual distance for judging (Zhang et al., arXiv 1801.03924, equation 1, without learned weights).

To judge what a perceptual term trained, take a network that the term did not use.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain.losses.features import FeatureNetwork, activations


@torch.no_grad()
def perceptual_distance(
    network: FeatureNetwork, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
) -> Float[Tensor, "B T"]:
    """Distance of every frame, from 0 to 4.

    Squared difference of activations that were scaled to length 1 over their channels, averaged over pixels, then over
    the network's layers.
    """
    mine, theirs = (activations(clip.clamp(-1, 1), network, network.layers) for clip in (reconstruction, video))
    distances = [(_unit(mine[layer]) - _unit(theirs[layer])).square().sum(dim=2).mean(dim=(2, 3)) for layer in mine]
    return torch.stack(distances).mean(dim=0)


def _unit(x_BTCHW: Tensor) -> Tensor:
    return x_BTCHW / (x_BTCHW.norm(dim=2, keepdim=True) + 1e-10)
