"""Layers of a tokenizer as parts of a linear map: which act on the trunk, as identity, mirrored, or held constant.

`pca_start` says why. Weights are set in place; those that would move the constants get a mask on their gradients.
"""

from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_tokenizer import CausalTokenizer
from cosmos_tokenizer.attention import MidBlock
from cosmos_tokenizer.layers import FactorisedConv, ResBlock, SpatialConv, TemporalConv
from cosmos_tokenizer.network import Decoder, DecoderLevel, Encoder, EncoderLevel
from cosmos_tokenizer.resampling import HybridDownsample, HybridUpsample

CONSTANT = 100.0
"""Value of the trunk's last channel but one; the last one has its negative."""

TrunkLayer = SpatialConv | HybridDownsample | HybridUpsample


def trunk(half: Encoder | Decoder) -> list[TrunkLayer]:
    """Layers that act on the trunk between the first convolution and the last norm, in order."""
    found: list[TrunkLayer] = []
    for level in _levels(half):
        for block in level.block:
            shortcut = cast("ResBlock", block).shortcut
            if isinstance(shortcut, SpatialConv):
                found.append(shortcut)
        resample = level.downsample if isinstance(level, EncoderLevel) else level.upsample
        if isinstance(resample, HybridDownsample | HybridUpsample):
            found.append(resample)
    return found


def _levels(half: Encoder | Decoder) -> Iterator[EncoderLevel | DecoderLevel]:
    """In the order in which they run."""
    levels = half.down if isinstance(half, Encoder) else reversed(half.up)
    for level in levels:
        yield cast("EncoderLevel | DecoderLevel", level)


def width(layer: TrunkLayer) -> int:
    """Channels that the layer gives."""
    return layer.out_channels if isinstance(layer, SpatialConv) else layer.mix.out_channels


def silence_branches(model: CausalTokenizer) -> None:
    """Set to zero what residual blocks and attention add to the trunk."""
    for module in model.modules():
        if isinstance(module, ResBlock):
            set_zero(factors(module.conv2)[1])
        if isinstance(module, MidBlock):
            for projection in _projections(module):
                set_zero(projection)


def set_trunk_norms(model: CausalTokenizer) -> None:
    """Give norms of the trunk the gain that undoes their division by what the constants make of the deviation."""
    for norm in _trunk_norms(model):
        norm.weight.fill_(CONSTANT * (2 / norm.num_channels) ** 0.5)
        norm.weight[-2:] = 0
        norm.bias.zero_()


def freeze_constants(model: CausalTokenizer) -> None:
    """Keep the constants constant: whatever Adam adds to a weight that reads them comes out a hundredfold."""
    for norm in _trunk_norms(model):
        _freeze(norm)
    for module in model.modules():
        match module:
            case ResBlock():
                _freeze(factors(module.conv2)[1])
                if isinstance(module.shortcut, SpatialConv):
                    _freeze(module.shortcut, columns=True)
            case MidBlock():
                for projection in _projections(module):
                    _freeze(projection)
            case HybridDownsample() | HybridUpsample():
                for layer in (module.spatial, module.temporal, module.mix):
                    if layer is not None:
                        _freeze(layer, columns=True)
            case Encoder() | Decoder():
                _freeze(factors(module.conv_in)[1])
            case _:
                pass


def _trunk_norms(model: CausalTokenizer) -> list[nn.GroupNorm]:
    norms: list[nn.GroupNorm] = []
    for module in model.modules():
        match module:
            case ResBlock():
                norms.append(module.norm1)
            case MidBlock():
                assert module.temporal_attention is not None
                norms += [module.spatial_attention.norm, module.temporal_attention.norm]
            case Encoder() | Decoder():
                norms.append(module.norm_out)
            case _:
                pass
    return norms


def _projections(module: MidBlock) -> tuple[nn.Linear, nn.Linear]:
    assert module.temporal_attention is not None
    return module.spatial_attention.proj, module.temporal_attention.proj


def factors(layer: nn.Module) -> tuple[SpatialConv, TemporalConv]:
    """The spatial and the temporal convolution of a factorised one."""
    assert isinstance(layer, FactorisedConv)
    return layer.spatial, layer.temporal


def bias(layer: SpatialConv) -> Float[Tensor, "D"]:
    """The layer's bias, which all of the tokenizer's convolutions have."""
    assert layer.bias is not None
    return layer.bias


def _freeze(layer: nn.Module, *, columns: bool = False) -> None:
    for name, parameter in layer.named_parameters():
        mask = torch.ones_like(parameter)
        mask[-2:] = 0
        if columns and name == "weight":
            mask[:, -2:] = 0
        # The parameter may move to another device behind this; its hooks go with it, and the mask does not.
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient.device))


def hold_constants(layer: TemporalConv) -> None:
    """Let the last two channels be the constants, whatever comes in."""
    layer.weight[-2:] = 0
    layer.bias[-2:] = torch.tensor([CONSTANT, -CONSTANT])


def take_away(taps: Float[Tensor, "D C *taps"], count: int, share: float) -> None:
    """Of the leading ``count`` channels, what a path beside the kernel adds to each of its ``taps``."""
    channel = torch.arange(count)
    taps[channel, channel] -= share


def pass_on(layer: SpatialConv) -> None:
    """Channels as they are, as far as both sides have them, and the constants."""
    mirror(layer, min(layer.in_channels, layer.out_channels) - 2, negatives=False)


def mirror(layer: SpatialConv, count: int, *, negatives: bool = True) -> None:
    """The leading ``count`` channels, their negatives, and the constants."""
    set_zero(layer)
    channel = torch.arange(count)
    layer.weight[channel, channel] = 1
    if negatives:
        layer.weight[count + channel, channel] = -1
    layer.weight[[-2, -1], [-2, -1]] = 1


def set_identity(layer: nn.Module) -> None:
    """Pass channels through as far as both sides have them; a factorised layer keeps only its temporal half."""
    if isinstance(layer, FactorisedConv):
        set_zero(layer.spatial)
        set_zero(layer.temporal)
        layer.temporal.weight[:, :, 2] = torch.eye(*layer.temporal.weight.shape[:2])
        return
    assert isinstance(layer, SpatialConv)
    set_zero(layer)
    layer.weight[:, :, 0, 0] = torch.eye(*layer.weight.shape[:2])


def set_zero(layer: nn.Module) -> None:
    """Set all of the layer's parameters to zero."""
    for parameter in layer.parameters():
        parameter.zero_()
