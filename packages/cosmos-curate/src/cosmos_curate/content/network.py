"""EfficientNet-Lite0 in torch, for export and for tests; imported in a process of its own, see `shots.exporting`."""

import sys
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_curate.content.efficientnet import FEATURES, SIDE
from cosmos_curate.content.embedding import LOUDNESS, projection


class Network(nn.Module):
    """From normalised frames to pooled features, logits, and for `embedding` centred and projected log features."""

    centre: Tensor
    projection: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.body = EfficientNet.from_name("efficientnet-lite0")
        self.body.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        norm = self.body._bn1
        mean = expected_relu6(norm.bias.detach().double(), norm.weight.detach().double().abs())
        self.register_buffer("centre", torch.log1p(LOUDNESS * mean).float())
        self.register_buffer("projection", torch.from_numpy(projection(FEATURES)))
        self.eval()

    def forward(
        self, frames: Float[Tensor, "N 3 224 224"]
    ) -> tuple[Float[Tensor, "N 1280"], Float[Tensor, "N 1000"], Float[Tensor, "N 1024"]]:
        features = self.body.extract_features(frames).mean((2, 3))
        centred = torch.log1p(LOUDNESS * features) - self.centre
        return features, self.body._fc(features), centred @ self.projection


def expected_relu6(mean: Float[Tensor, "F"], deviation: Float[Tensor, "F"]) -> Float[Tensor, "F"]:
    """Return the mean of min(max(x, 0), 6) over normal x.

    Batch norm keeps mean and deviation of each channel over the training photographs (its bias and weight), so that
    this is about what each feature is on average there: no photograph need be shipped or seen.
    """
    normal = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    low, high = -mean / deviation, (6 - mean) / deviation
    density_low, density_high = (normal.log_prob(x).exp() for x in (low, high))
    inside = normal.cdf(high) - normal.cdf(low)
    return mean * inside + deviation * (density_low - density_high) + 6 * (1 - normal.cdf(high))


def write(weights: Path, target: Path) -> None:
    """Write the ONNX network: `frames`, any number, to `features`, `logits` and `projected`."""
    torch.onnx.export(
        Network(weights),
        (torch.zeros(2, 3, SIDE, SIDE),),
        str(target),
        input_names=["frames"],
        output_names=["features", "logits", "projected"],
        dynamic_shapes=({0: torch.export.Dim("count", min=1, max=4096)},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
