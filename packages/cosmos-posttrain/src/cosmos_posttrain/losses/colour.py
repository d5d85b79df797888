"""Colour term (arXiv 2501.03575, section 4.2): mean absolute error of samples."""

from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain.losses.precision import in_float32


@in_float32
def colour(reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, ""]:
    """Mean of ``|reconstruction - video|``, from 0 to 2 for samples in [-1, 1]."""
    return (reconstruction - video).abs().mean()
