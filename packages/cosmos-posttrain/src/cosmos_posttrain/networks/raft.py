"""RAFT (Teed & Deng, arXiv 2003.12039), the large model, under torchvision's names: optical flow between frames."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_tokenizer import InputError

LEVELS, RADIUS = 4, 4
"""Of the correlation pyramid and of the square that is looked up in each level (section 3.2)."""
STRIDE = 8
SMALLEST = STRIDE * 2 ** (LEVELS - 1)
"""Least side of a frame in pixels, with which the last level has one entry."""
HIDDEN = 128


class ConvNormReLU(nn.Sequential):
    """Convolution that pads, norm where there is one, ReLU unless told otherwise."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        norm: type[nn.Module] | None = None,
        *,
        stride: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2),
            *([] if norm is None else [norm(channels_out)]),
            *([nn.ReLU(inplace=True)] if relu else []),
        )


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut, which is projected where the stride is 2."""

    def __init__(self, channels_in: int, channels_out: int, norm: type[nn.Module], *, stride: int) -> None:
        super().__init__()
        self.convnormrelu1 = ConvNormReLU(channels_in, channels_out, 3, norm, stride=stride)
        self.convnormrelu2 = ConvNormReLU(channels_out, channels_out, 3, norm)
        projection = ConvNormReLU(channels_in, channels_out, 1, norm, stride=stride, relu=False)
        self.downsample = nn.Identity() if stride == 1 else projection

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """``N C H W`` to ``N D H' W'``."""
        return F.relu(self.downsample(x_NCHW) + self.convnormrelu2(self.convnormrelu1(x_NCHW)))


class Encoder(nn.Module):
    """Frames to 256 channels at 1/8 of the sides (appendix A)."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.convnormrelu = ConvNormReLU(3, 64, 7, norm, stride=2)
        self.layer1 = self._layer(64, 64, norm, stride=1)
        self.layer2 = self._layer(64, 96, norm, stride=2)
        self.layer3 = self._layer(96, 128, norm, stride=2)
        self.conv = nn.Conv2d(128, 2 * HIDDEN, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """``N 3 H W`` to ``N 256 H/8 W/8``."""
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x_NCHW)))))

    @staticmethod
    def _layer(channels_in: int, channels_out: int, norm: type[nn.Module], *, stride: int) -> nn.Sequential:
        return nn.Sequential(
            ResidualBlock(channels_in, channels_out, norm, stride=stride),
            ResidualBlock(channels_out, channels_out, norm, stride=1),
        )


class MotionEncoder(nn.Module):
    """What was looked up and the flow so far, to 128 channels of which the last two are that flow."""

    def __init__(self) -> None:
        super().__init__()
        self.convcorr1 = ConvNormReLU(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convcorr2 = ConvNormReLU(256, 192, 3)
        self.convflow1 = ConvNormReLU(2, 128, 7)
        self.convflow2 = ConvNormReLU(128, 64, 3)
        self.conv = ConvNormReLU(256, HIDDEN - 2, 3)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        """Both at 1/8 of the sides."""
        parts = [self.convcorr2(self.convcorr1(correlation)), self.convflow2(self.convflow1(flow))]
        return torch.cat([self.conv(torch.cat(parts, dim=1)), flow], dim=1)


class ConvGRU(nn.Module):
    """Gated recurrent unit with convolutions along one axis (equations 3 to 6)."""

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convz = nn.Conv2d(3 * HIDDEN, HIDDEN, kernel, padding=padding)
        self.convr = nn.Conv2d(3 * HIDDEN, HIDDEN, kernel, padding=padding)
        self.convq = nn.Conv2d(3 * HIDDEN, HIDDEN, kernel, padding=padding)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The next hidden state."""
        both = torch.cat([hidden, x], dim=1)
        z, r = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        return (1 - z) * hidden + z * torch.tanh(self.convq(torch.cat([r * hidden, x], dim=1)))


class RecurrentBlock(nn.Module):
    """One unit along rows, one along columns."""

    def __init__(self) -> None:
        super().__init__()
        self.convgru1 = ConvGRU((1, 5))
        self.convgru2 = ConvGRU((5, 1))

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The next hidden state."""
        return self.convgru2(self.convgru1(hidden, x), x)


class FlowHead(nn.Module):
    """Hidden state to the change of flow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(HIDDEN, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """``N 128 h w`` to ``N 2 h w``."""
        return self.conv2(F.relu(self.conv1(hidden)))


class UpdateBlock(nn.Module):
    """One iteration of the flow (section 3.3)."""

    def __init__(self) -> None:
        super().__init__()
        self.motion_encoder = MotionEncoder()
        self.recurrent_block = RecurrentBlock()
        self.flow_head = FlowHead()

    def forward(self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The next hidden state, and what to add to the flow."""
        motion = self.motion_encoder(flow, correlation)
        hidden = self.recurrent_block(hidden, torch.cat([context, motion], dim=1))
        return hidden, self.flow_head(hidden)


class MaskPredictor(nn.Module):
    """Hidden state to the logits that weigh 9 coarse neighbours for each of 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.convrelu = ConvNormReLU(HIDDEN, 256, 3)
        self.conv = nn.Conv2d(256, 9 * STRIDE**2, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """``N 128 h w`` to ``N 576 h w``; the quarter is the released weights'."""
        return 0.25 * self.conv(self.convrelu(hidden))


class RAFT(nn.Module):
    """Optical flow of frame pairs; pass it frames in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_encoder = Encoder(nn.InstanceNorm2d)
        self.context_encoder = Encoder(nn.BatchNorm2d)
        self.update_block = UpdateBlock()
        self.mask_predictor = MaskPredictor()

    def forward(
        self, first: Float[Tensor, "N 3 H W"], second: Float[Tensor, "N 3 H W"], *, updates: int = 12
    ) -> Float[Tensor, "N 2 H W"]:
        """Where each pixel of ``first`` has gone in ``second``: x and y in pixels, after the last update.

        Raises:
            InputError: a side is no multiple of 8, or less than 64.
        """
        height, width = first.shape[-2:]
        if height % STRIDE or width % STRIDE or min(height, width) < SMALLEST:
            raise InputError(
                f"RAFT takes frames whose sides are multiples of {STRIDE} from {SMALLEST} on, not {height}x{width}: "
                "resize them"
            )
        features = self.feature_encoder(torch.cat([first, second]))
        pyramid = correlation_pyramid(*features.chunk(2))
        hidden, context = self.context_encoder(first).split(HIDDEN, dim=1)
        hidden, context = torch.tanh(hidden), F.relu(context)
        start = coordinates(height // STRIDE, width // STRIDE, like=features)
        flow = torch.zeros_like(hidden[:, :2])
        for _ in range(updates):
            flow = flow.detach()  # As in training: each update learns from what it adds alone.
            hidden, change = self.update_block(hidden, context, look_up(pyramid, start + flow), flow)
            flow = flow + change
        return upsample(flow, self.mask_predictor(hidden))


def correlation_pyramid(first_NCHW: Tensor, second_NCHW: Tensor) -> list[Tensor]:
    """Products of all pairs of pixels, ``(N h w) 1 h' w'``, with the second frame's averaged in ever larger squares."""
    channels, height, width = first_NCHW.shape[1:]
    volume = torch.einsum("nca,ncb->nab", first_NCHW.flatten(2), second_NCHW.flatten(2)) / math.sqrt(channels)
    pyramid = [rearrange(volume, "n a (h w) -> (n a) 1 h w", h=height, w=width)]
    for _ in range(LEVELS - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid


def look_up(pyramid: list[Tensor], centre_N2HW: Tensor) -> Tensor:
    """Entries of each level around where a pixel now is: ``N 324 h w``; beyond the border they are 0."""
    batch, _, height, width = centre_N2HW.shape
    step = torch.arange(-RADIUS, RADIUS + 1, device=centre_N2HW.device, dtype=centre_N2HW.dtype)
    offset = torch.stack(torch.meshgrid(step, step, indexing="ij"), dim=-1)
    centre = rearrange(centre_N2HW, "n c h w -> (n h w) 1 1 c")
    found = []
    for level, volume in enumerate(pyramid):
        x, y = (centre / 2**level + offset).unbind(-1)
        rows, columns = volume.shape[-2:]
        # With corners not aligned a level may be one entry wide; with them this would divide by 0.
        grid = torch.stack([(2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1], dim=-1)
        sampled = F.grid_sample(volume, grid, align_corners=False)
        found.append(rearrange(sampled, "(n h w) 1 i j -> n (i j) h w", n=batch, h=height, w=width))
    return torch.cat(found, dim=1)


def coordinates(height: int, width: int, *, like: Tensor) -> Tensor:
    """x and y of every position: ``2 h w``."""
    y, x = (torch.arange(size, device=like.device, dtype=like.dtype) for size in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))


def upsample(flow_N2HW: Tensor, logits: Tensor) -> Tensor:
    """Each fine pixel's flow as a convex combination of 9 coarse ones (section 3.3, appendix B)."""
    height, width = flow_N2HW.shape[-2:]
    weights = rearrange(logits, "n (k p q) h w -> n 1 k p q h w", k=9, p=STRIDE, q=STRIDE).softmax(dim=2)
    around = F.unfold(STRIDE * flow_N2HW, 3, padding=1)
    coarse = rearrange(around, "n (c k) (h w) -> n c k 1 1 h w", c=2, h=height, w=width)
    return rearrange((weights * coarse).sum(dim=2), "n c p q h w -> n c (h p) (w q)")
