"""The inference form of a tokenizer: what is linear and adjacent becomes one product (arXiv 2501.03575, section 4.1).

The wavelet goes into the first and last convolutions, pooling and the 1x1 mix into the strided convolutions,
repetition, identity and mix into sub-pixel convolutions, and the projection of the latents into the encoder's last one.
Weights are merged in float64, so that float32 results differ by rounding alone, and on the CPU, as not every device
has float64.
"""

import copy
from typing import TypeVar

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from cosmos_tokenizer import haar
from cosmos_tokenizer.cache import name_memories
from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.folded import DoubleFrames, MergedResampling, PixelsToChannels, SubPixelConv, ToPixels
from cosmos_tokenizer.layers import SpatialConv, TemporalConv
from cosmos_tokenizer.network import Decoder, Encoder
from cosmos_tokenizer.resampling import HybridDownsample, HybridUpsample, ImageUpsample

Half = TypeVar("Half", Encoder, Decoder)


def folded_encoder(encoder: Encoder, config: TokenizerConfig) -> Encoder:
    """Copy that shares the weights it leaves alone."""
    folded = _shared_copy(encoder)
    first = _part(folded.conv_in, "spatial", config)
    analysis_DS = wavelet_matrices(config)[0]
    _set(first, einsum(_wide(first.weight), analysis_DS, "o d h w, d s -> o s h w"), _wide(first.bias))
    folded.patch = PixelsToChannels(config.patch_size, config.time_patch)
    for level in folded.down:
        if isinstance(level.downsample, HybridDownsample):
            level.downsample = _downsample(level.downsample)
    last = _part(folded.conv_out, "temporal", config)
    _mix_into(last, folded.quant_conv)
    folded.quant_conv = nn.Identity()
    return _finished(folded)


def folded_decoder(decoder: Decoder, config: TokenizerConfig) -> Decoder:
    """Copy that shares the weights it leaves alone."""
    folded = _shared_copy(decoder)
    for level in folded.up:
        if isinstance(level.upsample, HybridUpsample):
            level.upsample = _upsample(level.upsample)
        elif isinstance(level.upsample, ImageUpsample):
            level.upsample = MergedResampling(_sub_pixel(level.upsample.conv, None, residual=False), None)
    last = _part(folded.conv_out, "temporal", config)
    synthesis_SD = wavelet_matrices(config)[1]
    weight = einsum(synthesis_SD, _wide(last.weight), "s d, d ... -> s ...")
    _set(last, weight, synthesis_SD @ _wide(last.bias))
    folded.unpatch = ToPixels(config.patch_size, config.time_patch)
    return _finished(folded)


def wavelet_matrices(config: TokenizerConfig) -> tuple[Tensor, Tensor]:
    """The wavelet of one patch and its inverse in float64: coefficients by samples ``(c t h w)``, and back."""
    count, p, t = config.patch_channels, config.patch_size, config.time_patch
    one_hot = torch.eye(count, dtype=torch.float64, device="cpu")
    samples = rearrange(one_hot, "n (c t h w) -> n c t h w", t=t, h=p, w=p)
    coefficients = haar.patch(samples, patch_size=p, media=config.media, start=False)
    clips = haar.unpatch(one_hot[:, :, None, None, None], patch_size=p, media=config.media, start=False)
    return coefficients.flatten(1).T, clips.flatten(1).T


def _downsample(layer: HybridDownsample) -> MergedResampling:
    spatial, temporal = layer.spatial, layer.temporal
    if spatial is not None:
        weight = _wide(spatial.weight)
        weight[:, :, :2, :2] += torch.eye(len(weight), dtype=weight.dtype, device="cpu")[:, :, None, None] / 4
        _set(spatial, weight, _wide(spatial.bias))
    if temporal is not None:
        weight = _wide(temporal.weight)
        weight[:, :, 1:] += torch.eye(len(weight), dtype=weight.dtype, device="cpu")[:, :, None] / 2
        _set(temporal, weight, _wide(temporal.bias))
    _mix_into(temporal if temporal is not None else spatial, layer.mix)
    return MergedResampling(spatial, temporal, space_first=True)


def _upsample(layer: HybridUpsample) -> MergedResampling:
    temporal, spatial = None, None
    if layer.temporal is not None:
        temporal = _double_frames(layer.temporal, layer.mix if layer.spatial is None else None)
    if layer.spatial is not None:
        spatial = _sub_pixel(layer.spatial, layer.mix, residual=True)
    return MergedResampling(spatial, temporal, space_first=False)


def _sub_pixel(conv: SpatialConv, mix: SpatialConv | None, *, residual: bool) -> SubPixelConv:
    """3x3 over repeated pixels: each of the four phases sees 2x2 pixels of the low resolution."""
    weight, bias = _wide(conv.weight), _wide(conv.bias)
    if residual:
        weight[range(len(weight)), range(len(weight)), 1, 1] += 1
    if mix is not None:
        weight, bias = _mixed(weight, bias, mix)
    phases = [_two_taps(_two_taps(weight, 2, row), 3, column) for row in range(2) for column in range(2)]
    return SubPixelConv(_like(torch.stack(phases), conv.weight), _like(bias, conv.weight))


def _double_frames(conv: TemporalConv, mix: SpatialConv | None) -> DoubleFrames:
    """Three taps over repeated frames: each of the two copies sees two frames of the low rate."""
    weight, bias = _wide(conv.weight), _wide(conv.bias)
    weight[range(len(weight)), range(len(weight)), 2] += 1
    if mix is not None:
        weight, bias = _mixed(weight, bias, mix)
    # The earlier copy follows the frame before, so that frame counts twice there; in the later copy its own does.
    weight = torch.cat([_two_taps(weight, 2, 1), _two_taps(weight, 2, 0)])
    return DoubleFrames(_like(weight, conv.weight), _like(bias.repeat(2), conv.weight))


def _two_taps(weight: Tensor, axis: int, phase: int) -> Tensor:
    """Three taps over repeated samples as two over single ones: the sample's own repetitions share a tap."""
    before, here, after = weight.unbind(axis)
    return torch.stack([before, here + after] if phase == 0 else [before + here, after], axis)


def _part(conv: nn.Module, name: str, config: TokenizerConfig) -> SpatialConv | TemporalConv:
    """A factor of a video's convolution by its name; of images, the convolution."""
    part = getattr(conv, name) if config.media == "video" else conv
    assert isinstance(part, SpatialConv | TemporalConv)
    return part


def _mix_into(layer: nn.Module | None, mix: nn.Module) -> None:
    assert isinstance(layer, SpatialConv | TemporalConv)
    assert isinstance(mix, SpatialConv)
    _set(layer, *_mixed(_wide(layer.weight), _wide(layer.bias), mix))


def _mixed(weight: Tensor, bias: Tensor, mix: SpatialConv) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the 1x1 that follows it."""
    matrix = _wide(mix.weight)[:, :, 0, 0]
    return einsum(matrix, weight, "o d, d ... -> o ..."), matrix @ bias + _wide(mix.bias)


def _set(layer: SpatialConv | TemporalConv, weight: Tensor, bias: Tensor) -> None:
    before = layer.weight
    layer.weight, layer.bias = _like(weight, before), _like(bias, before)


def _like(value: Tensor, before: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(before.dtype).to(before.device), requires_grad=False)


def _wide(value: Tensor | None) -> Tensor:
    assert value is not None  # every convolution here has a bias
    return value.detach().cpu().to(torch.float64, copy=True)


def _shared_copy(half: Half) -> Half:
    """Copy of the modules whose parameters are those of the original."""
    shared = {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in half.parameters()}
    return copy.deepcopy(half, shared)


def _finished(half: Half) -> Half:
    for module in half.modules():
        if isinstance(module, TemporalConv | DoubleFrames):  # each tap a matrix that lies in one piece
            taps_KDC = module.weight.permute(2, 0, 1).contiguous()
            module.weight = nn.Parameter(taps_KDC.permute(1, 2, 0), requires_grad=False)
    name_memories(half)
    return half
