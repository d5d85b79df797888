"""Features of pictures and clips for Fréchet distances, by networks from TorchScript files.

rFID: Inception (arXiv 1706.08500). rFVD: the I3D of StyleGAN-V (arXiv 2112.14683), prepared as TokenBench does.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.metrics.scripted import ScriptedNetwork


@runtime_checkable
class FeatureNetwork(Protocol):
    """What makes one vector of a clip, whose frames may come a few at a time."""

    @property
    def frames(self) -> int:
        """How many frames of a clip it looks at, from the first."""
        ...

    @property
    def customary(self) -> int:
        """How many samples published figures have at least."""
        ...

    def prepare(self, frames_THWC: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T 3 h w"]:
        """Scale some frames to the network's size and range."""
        ...

    def features(self, prepared_TCHW: Float[Tensor, "T 3 h w"]) -> Float[Tensor, " D"]:
        """Vector of the prepared frames."""
        ...


class ImageFeatures:
    """A network of pictures, `B 3 299 299` float32 in 0 ... 255 to `B D`, such as Inception (2048 features).

    Pictures are scaled to 299x299, whatever their shape, bilinearly and without antialiasing, corners not aligned, as
    TensorFlow's Inception graph did in the definition. `return_features=True` is passed where the file takes it.

    Raises:
        InputError: the file is no such network.
    """

    frames = 1
    customary = 10_000

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        self._network = ScriptedNetwork(path, device, {"return_features": True})
        self._device = torch.device(device)
        _vector(self._network, torch.zeros(1, 3, 299, 299, device=device))

    def prepare(self, frames_THWC: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T 3 299 299"]:
        """Scale each frame to 299x299; the range stays 0 ... 255."""
        return _resized(frames_THWC.to(self._device), (299, 299))

    def features(self, prepared_TCHW: Float[Tensor, "1 3 299 299"]) -> Float[Tensor, " D"]:
        """Vector of one prepared picture.

        Raises:
            InputError: the network fails, or its result is no finite `1 D`.
        """
        return _vector(self._network, prepared_TCHW)


class VideoFeatures:
    """A network of clips, `B 3 T 224 224` float32 in [-1, 1] to `B D`, such as the I3D of StyleGAN-V (400 features).

    The first 300 frames at most; the shorter side to 224, bilinear without antialiasing, corners not aligned, the
    longer rounded up; the centre is cut out. `rescale=False, resize=False, return_features=True` are passed where the
    file takes them.

    Raises:
        InputError: the file is no such network.
    """

    frames = 300
    customary = 2_048

    def __init__(self, path: Path | str, device: torch.device | str = "cpu") -> None:
        self._network = ScriptedNetwork(path, device, {"rescale": False, "resize": False, "return_features": True})
        self._device = torch.device(device)
        _vector(self._network, torch.zeros(1, 3, 16, 224, 224, device=device))

    def prepare(self, frames_THWC: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T 3 224 224"]:
        """Scale and cut each frame to 224x224 in [-1, 1]."""
        height, width = frames_THWC.shape[1:3]
        short = min(height, width)
        size = -(-height * 224 // short), -(-width * 224 // short)
        top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
        # One frame at a time: floats of a pass at full size would be the largest thing in memory.
        scaled = [_resized(frame[None].to(self._device), size) for frame in frames_THWC]
        return torch.cat([x[..., top : top + 224, left : left + 224] for x in scaled]) / 127.5 - 1

    def features(self, prepared_TCHW: Float[Tensor, "T 3 224 224"]) -> Float[Tensor, " D"]:
        """Vector of one prepared clip.

        Raises:
            InputError: the network fails, as it may on very short clips, or its result is no finite `1 D`.
        """
        return _vector(self._network, rearrange(prepared_TCHW, "T C H W -> 1 C T H W"))


def _resized(frames_THWC: Tensor, size: tuple[int, int]) -> Tensor:
    frames_TCHW = rearrange(frames_THWC, "T H W C -> T C H W").float()
    return F.interpolate(frames_TCHW, size, mode="bilinear", align_corners=False, antialias=False)


def _vector(network: ScriptedNetwork, x: Tensor) -> Tensor:
    result = network(x)
    if result.ndim != 2 or result.shape[0] != 1 or result.shape[1] == 0:
        shapes = "x".join(map(str, x.shape)), "x".join(map(str, result.shape)) or "one number"
        raise InputError(
            f"{network.path}: gives {shapes[1]} for {shapes[0]}, and features are B x D; flatten them there"
        )
    return result[0]
