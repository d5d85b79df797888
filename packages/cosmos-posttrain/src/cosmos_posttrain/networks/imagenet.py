"""Input of networks trained on ImageNet: frames in [-1, 1] to each colour's zero mean and unit deviation."""

import torch
from jaxtyping import Float
from torch import Tensor

# Of colours in [0, 1]. Doubled and moved to [-1, 1] they are the (-.030, -.088, -.188) and (.458, .448, .450) of LPIPS.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(frames: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """Frames less ImageNet's mean, over its deviation."""
    colours = zip(frames.unbind(1), MEAN, STD, strict=True)
    return torch.stack([(colour - (2 * mean - 1)) / (2 * std) for colour, mean, std in colours], dim=1)
