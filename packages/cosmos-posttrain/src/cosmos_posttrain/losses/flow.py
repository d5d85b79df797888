"""Optical flow term (arXiv 2501.03575, section 4.2): the motion in a reconstruction against that in the clip."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain.losses.precision import in_float32
from cosmos_posttrain.networks.raft import SMALLEST, STRIDE


@runtime_checkable
class FlowNetwork(Protocol):
    """What the term asks of a network: ``cosmos_posttrain.networks.flow_network`` gives one."""

    def __call__(self, first: Float[Tensor, "N 3 h w"], second: Float[Tensor, "N 3 h w"], /) -> Tensor:
        """``N 2 h w``: where pixels of ``first`` went in ``second``, x and y, in pixels. Sides are those of RAFT."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class OpticalFlow:
    """Mean absolute difference of flow in pixels, over both directions of time; 0 for images,
    with a gradient of 0.

    Frames are shrunk first and their flow brought back to full size, as in the released code; the paper adds the two
    directions, and so has twice this.
    """

    network: FlowNetwork
    shrink: int = 2
    """Sides are divided by this, rounded to what RAFT takes: multiples of 8, and 64 at the least."""

    @in_float32
    def __call__(
        self, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
    ) -> Float[Tensor, ""]:
        """The term of two clips in [-1, 1]."""
        if video.shape[2] == 1:
            return reconstruction[:0].sum()
        return (self.flow(reconstruction) - self.flow(video)).abs().mean()

    def flow(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B 2 S H W"]:
        """Flow from each frame but the last to the next one, then from each but the first to the one before."""
        batch, _, _, *size = video.shape
        height, width = size
        small = [max(SMALLEST, STRIDE * round(side / self.shrink / STRIDE)) for side in size]
        frames = F.interpolate(rearrange(video, "b c t h w -> (b t) c h w"), small, mode="bilinear")
        frames_BTCHW = frames.unflatten(0, (batch, -1))
        earlier, later = (x.flatten(0, 1) for x in (frames_BTCHW[:, :-1], frames_BTCHW[:, 1:]))
        flow = F.interpolate(
            self.network(torch.cat([earlier, later]), torch.cat([later, earlier])), size, mode="bilinear"
        )
        x, y = flow.unbind(1)
        full = torch.stack([x * (width / small[1]), y * (height / small[0])], dim=1)
        return rearrange(full, "(d b t) c h w -> b c (d t) h w", d=2, b=batch)
