"""A 3-D patch discriminator (PatchGAN of Isola et al., arXiv 1611.07004, section 3.2.2, with time as a third axis).

Each logit judges a patch in space and time. Before the first frame and after the last stand copies of them, so that an
image is judged as the still clip of it.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_tokenizer import InputError


class TimeReplicatedConv(nn.Conv3d):
    """Convolution with zeros around each frame, and a copy of the first and the last one in front and behind."""

    def __init__(self, channels_in: int, channels_out: int, side: int, stride: tuple[int, int, int]) -> None:
        super().__init__(channels_in, channels_out, (3, side, side), stride, padding=(0, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        """``B C T H W`` to ``B D ceil(T / stride) H' W'``."""
        return super().forward(torch.cat([input[:, :, :1], input, input[:, :, -1:]], dim=2))


class PatchDiscriminator(nn.Module):
    """Clips or images to a map of logits, high where they look real.

    Args:
        width: channels of the first layer; each later one doubles them, up to eight times as many.
        layers: convolutions that halve the sides; those from the second on halve the frames too, at most twice. Three
            see patches of 38x38 pixels and 17 frames.
    """

    def __init__(self, *, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        if width < 8 or width % 8 or layers < 1:
            raise InputError(
                f"the discriminator has width {width} and {layers} layers: give a multiple of 8 and 1 or more"
            )
        widths = [3, *(width * min(2**layer, 8) for layer in range(layers))]
        self.cell = 2**layers
        self.convs = nn.ModuleList(
            TimeReplicatedConv(inner, outer, 4, (2 if layer in (1, 2) else 1, 2, 2))
            for layer, (inner, outer) in enumerate(pairwise(widths))
        )
        # Not batch norm: its statistics would couple the clips of a batch, and processes with them.
        self.norms = nn.ModuleList(nn.GroupNorm(8, channels) for channels in widths[2:])
        self.head = TimeReplicatedConv(widths[-1], 1, 3, (1, 1, 1))

    def forward(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B 1 t h w"]:
        """Logits of clips in [-1, 1]; T is 1 for images.

        Raises:
            InputError: a side is too small for one logit.
        """
        if min(video.shape[-2:]) < self.cell:
            size = "x".join(map(str, video.shape[-2:]))
            raise InputError(f"this discriminator needs frames of at least {self.cell}x{self.cell}, not {size}")
        x = F.leaky_relu(self.convs[0](video), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return self.head(x)
