"""LPIPS (arXiv 1801.03924) by a network from a TorchScript file."""

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float64, UInt8
from torch import Tensor

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.metrics.scripted import ScriptedNetwork


class LPIPS:
    """A distance of pictures: two tensors `B 3 H W` float32 in [-1, 1] to B distances, 0 for equal ones.

    The published video figures are those of VGG, per frame, at full size.

    Raises:
        InputError: the file is no such network.
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        self._network = ScriptedNetwork(path, device)
        self._device = torch.device(device)
        self._distance(torch.zeros(1, 3, 64, 64, device=device), torch.zeros(1, 3, 64, 64, device=device))

    def per_frame(self, reference: UInt8[Tensor, "T H W 3"], other: UInt8[Tensor, "T H W 3"]) -> Float64[Tensor, " T"]:
        """Distance of every pair of frames, on the CPU; one pair is in the network at a time.

        Raises:
            InputError: the network fails, or gives anything but one finite number a pair.
        """
        pairs = zip(reference.split(1), other.split(1), strict=True)
        return torch.stack([self._distance(self._scaled(a), self._scaled(b)) for a, b in pairs])

    def _distance(self, a_1CHW: Tensor, b_1CHW: Tensor) -> Tensor:
        result = self._network(a_1CHW, b_1CHW)
        if result.numel() != 1:
            shape = "x".join(map(str, result.shape))
            raise InputError(f"{self._network.path}: gives {shape} for a pair of pictures, and one distance is needed")
        return result.reshape(()).to("cpu", torch.float64)

    def _scaled(self, frame_1HWC: Tensor) -> Tensor:
        return rearrange(frame_1HWC.to(self._device), "T H W C -> T C H W").float() / 127.5 - 1
