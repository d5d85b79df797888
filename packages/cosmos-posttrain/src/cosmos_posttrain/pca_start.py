"""A start for small tokenizers: weights that make the network a linear block transform, fitted by principal components.

A net of this family started at random needs days to pass a block PCA; started as one, it only has to improve on it.
Three tricks make the network linear: second convolutions and attention outputs are zero, so that residual branches
vanish; two channels of the trunk hold constants far larger than the rest, so that the per-frame norms divide by a
constant; and SiLU sees mirrored channels, since silu(x) - silu(-x) = x.

What then acts on the trunk are the convolutions that change its width, the halvings and the doublings.
The encoder's halvings take the principal components of what they join. The decoder's doublings are fitted, one after
another, to the components of the wavelet coefficients that later doublings still have to part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cosmos_posttrain.linear_fits import blocks, frame_groups, principal, ridge, rows
from cosmos_posttrain.linear_layers import (
    bias,
    factors,
    freeze_constants,
    hold_constants,
    mirror,
    pass_on,
    set_identity,
    set_trunk_norms,
    set_zero,
    silence_branches,
    take_away,
    trunk,
    width,
)
from cosmos_tokenizer import CausalTokenizer, InputError, TokenizerConfig, fsq, haar
from cosmos_tokenizer.layers import SpatialConv, TemporalConv
from cosmos_tokenizer.network import Decoder, Encoder
from cosmos_tokenizer.resampling import HybridDownsample, HybridUpsample

ROTATIONS = 300


class Scaled(nn.Module):
    """Parametrisation that multiplies a parameter by a fixed factor, so that an optimiser sees it at unit scale."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        # Measured on the data, which may be others when a run goes on: a parameter, for checkpoints to hold it.
        self.scale = nn.Parameter(scale, requires_grad=False)

    def forward(self, value: Tensor) -> Tensor:
        """Parameter as the network uses it."""
        return value * self.scale

    def right_inverse(self, value: Tensor) -> Tensor:
        """Parameter as the optimiser sees it."""
        return value / self.scale


@torch.no_grad()
def start(model: CausalTokenizer, clips: Float[Tensor, "B 3 T H W"]) -> None:
    """Set every weight of a video tokenizer from ``clips``, freeze its constant channels, rescale its ends.

    Wavelet coefficients differ in size by a factor of hundreds: the first convolution's input side and the last one's
    output are parametrised so that they are trained at unit scale. :func:`finished` folds that into plain weights.

    Args:
        model: built from a config of video with one norm group, in which some layer after the patching, on either
            side, changes the width or the resolution.
        clips: some hundred clips in [-1, 1] of the training data, of a legal size.

    Raises:
        InputError: the model is of another kind.
    """
    config = model.config
    encoder, decoder = model.encoder, model.decoder
    if encoder is None or decoder is None:
        raise InputError("the model has one half only, and a linear start fits both")
    if config.media != "video" or config.norm_groups != 1:
        raise InputError(
            f"a linear start is for video with norm_groups 1, and the model has {config.media} with "
            f"{config.norm_groups}: set start=random"
        )
    if not trunk(encoder) or not trunk(decoder):
        raise InputError("no layer of the model changes the width or the resolution after the patch: set start=random")
    coefficients = haar.patch(clips, patch_size=config.patch_size, media="video")
    w_BTDHW = rearrange(coefficients, "b d t h w -> b t d h w")
    mean_D, scale_D = w_BTDHW.mean((0, 1, 3, 4)), w_BTDHW.std((0, 1, 3, 4)).clamp_min(1e-4)
    silence_branches(model)
    set_trunk_norms(model)
    _start_encoder(encoder, config, w_BTDHW, mean_D)
    z_BCTHW = model.encode_raw(clips)
    if config.kind == "discrete":
        _spread_over_levels(encoder, config, z_BCTHW)
        z_BCTHW = fsq.quantize(model.encode_raw(clips), config.levels)
    _start_decoder(decoder, config, rearrange(z_BCTHW, "b c t h w -> b t c h w"), w_BTDHW, mean_D)
    freeze_constants(model)
    spatial, temporal = factors(encoder.conv_in)[0], factors(decoder.conv_out)[1]
    parametrize.register_parametrization(spatial, "weight", Scaled(1 / scale_D[None, :, None, None]))
    parametrize.register_parametrization(temporal, "weight", Scaled(scale_D[:, None, None]))
    parametrize.register_parametrization(temporal, "bias", Scaled(scale_D))


def scales(module: nn.Module) -> list[nn.Parameter]:
    """The fixed factors of :func:`start`, which belong to a run's parameters though nothing trains them."""
    return [part.scale for part in module.modules() if isinstance(part, Scaled)]


@torch.no_grad()
def finished(model: CausalTokenizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of a model, whole and on the CPU, as a plain one of its config has them: rescaled ends folded in."""
    plain = dict(parameters)
    for place, module in model.named_modules():
        if isinstance(module, Scaled):
            path = place.rpartition(".")[0]
            scaled = plain.pop(f"{path}.original")
            plain.pop(f"{place}.scale")
            plain[path.replace(".parametrizations", "")] = scaled * module.scale.to(scaled.device)
    return plain


@dataclass(frozen=True, slots=True)
class _Components:
    """Leading channels of the trunk, and what a unit of each is worth in pixels."""

    x_BTKHW: Tensor
    unit_K: Tensor

    @property
    def count(self) -> int:
        return len(self.unit_K)

    def in_pixels(self) -> Tensor:
        return self.x_BTKHW * self.unit_K[:, None, None]

    def cut(self, most: int) -> "_Components":
        """The largest."""
        return _Components(self.x_BTKHW[:, :, :most], self.unit_K[:most])


def _start_encoder(encoder: Encoder, config: TokenizerConfig, w_BTDHW: Tensor, mean_D: Tensor) -> None:
    centred = w_BTDHW - mean_D[:, None, None]
    basis_KD, size_K = principal(rows(centred), config.channels - 2)
    project_KD = basis_KD / size_K.sqrt()[:, None]
    set_identity(encoder.conv_in)
    spatial, temporal = factors(encoder.conv_in)
    spatial.weight[: len(size_K), :, 1, 1] = project_KD
    bias(spatial)[: len(size_K)] = -project_KD @ mean_D
    hold_constants(temporal)
    components = _Components(torch.einsum("kd,btdhw->btkhw", project_KD, centred), size_K.sqrt())

    layers = trunk(encoder)
    for layer in layers:
        last = layer is layers[-1]
        most = (width(layer) - 2) // (2 if last else 1)
        if isinstance(layer, SpatialConv):
            mix, components = layer, components.cut(most)
        else:
            halving = cast("HybridDownsample", layer)
            mix, components = halving.mix, _start_halving(halving, components, most)
        if last:
            mirror(mix, components.count)
        else:
            pass_on(mix)
    if components.count < config.z_channels:
        raise InputError(
            f"{components.count} components reach the latents of {config.z_channels} channels: a linear start needs "
            "wider levels; set start=random"
        )

    set_identity(encoder.conv_out)
    spatial, _ = factors(encoder.conv_out)
    channel = torch.arange(config.z_channels)
    unit = components.unit_K[: config.z_channels]
    spatial.weight[channel, channel, 1, 1] = 1 / unit
    spatial.weight[channel, components.count + channel, 1, 1] = -1 / unit
    set_identity(encoder.quant_conv)


def _start_halving(layer: HybridDownsample, components: _Components, most: int) -> _Components:
    """Set the layer, but for its mix, to the components of the cells and then of the frames that it joins."""
    if layer.spatial is not None:
        basis_KN, size_K = principal(blocks(components.in_pixels(), space=2), most)
        basis = rearrange(basis_KN, "o (i j k) -> o k i j", i=2, j=2)
        taps = basis * components.unit_K[:, None, None] / size_K.sqrt()[:, None, None, None]
        set_zero(layer.spatial)
        layer.spatial.weight[: taps.shape[0], : taps.shape[1], :2, :2] = taps
        # What pooling adds is taken away again, but from the constants.
        take_away(layer.spatial.weight[:, :, :2, :2], len(taps), 1 / 4)
        cells = rearrange(components.x_BTKHW, "b t k (h i) (w j) -> b t k h i w j", i=2, j=2)
        components = _Components(torch.einsum("okij,btkhiwj->btohw", taps, cells), size_K.sqrt())
    if layer.temporal is not None:
        basis_KN, size_K = principal(blocks(components.in_pixels(), time=2), most)
        basis = rearrange(basis_KN, "o (p k) -> o k p", p=2)
        taps = basis * components.unit_K[:, None] / size_K.sqrt()[:, None, None]
        set_zero(layer.temporal)
        layer.temporal.weight[: taps.shape[0], : taps.shape[1], 1:] = taps
        take_away(layer.temporal.weight[:, :, 1:], len(taps), 1 / 2)
        pairs = frame_groups(components.x_BTKHW, 2)
        components = _Components(torch.einsum("okp,btpkhw->btohw", taps, pairs), size_K.sqrt())
    return components


def _spread_over_levels(encoder: Encoder, config: TokenizerConfig, z_BCTHW: Tensor) -> None:
    """Turn the leading components so that the quantiser's levels are used well: the best of some random rotations."""
    count = config.latent_channels
    size = factors(encoder.conv_out)[0].weight.diagonal(dim1=0, dim2=1)[1, 1, :count] ** -2
    c = rearrange(z_BCTHW[:, :count], "b c t h w -> (b t h w) c")
    c = c[torch.randperm(len(c))[:20000]] * size
    best, chosen = float("inf"), torch.eye(count)
    for _ in range(ROTATIONS):
        rotation = torch.linalg.qr(torch.randn(count, count)).Q
        reach = torch.empty(()).uniform_(0.6, 1.4)
        turned = reach * rotation / (c @ rotation.T).std(0)[:, None]
        codes = fsq.quantize((c @ turned.T)[:, :, None, None, None], config.levels).flatten(1)
        codes = F.pad(codes, (0, 1), value=1.0)
        error = float((codes @ torch.linalg.lstsq(codes, c).solution - c).square().mean())
        if error < best:
            best, chosen = error, turned * size
    mix = cast("SpatialConv", encoder.quant_conv)
    mix.weight.zero_()
    mix.weight[:, :count, 0, 0] = chosen


def _start_decoder(decoder: Decoder, config: TokenizerConfig, z_BTCHW: Tensor, w_BTDHW: Tensor, mean_D: Tensor) -> None:
    layers = trunk(decoder)
    centred = w_BTDHW - mean_D[:, None, None]
    basis_KD, size_K = principal(rows(centred), (width(layers[-1]) - 2) // 2)
    project_KD = basis_KD / size_K.sqrt()[:, None]
    components = _Components(torch.einsum("kd,btdhw->btkhw", project_KD, centred), size_K.sqrt())

    # Beside the latents stand random convolutions of them, from which the first fit can make what it needs.
    set_identity(decoder.post_quant_conv)
    spatial, temporal = factors(decoder.conv_in)
    random = spatial.weight.clone()
    set_identity(decoder.conv_in)
    channel = torch.arange(min(config.latent_channels, config.z_channels, spatial.out_channels - 2))
    spatial.weight.copy_(random)
    spatial.weight[channel] = 0
    spatial.weight[channel, channel, 1, 1] = 1
    hold_constants(temporal)
    x_BTCHW = decoder.conv_in(decoder.post_quant_conv(z_BTCHW))[:, :, :-2]

    doublings = [layer for layer in layers if isinstance(layer, HybridUpsample)]
    time = 2 ** sum(layer.temporal is not None for layer in doublings)
    space = 2 ** sum(layer.spatial is not None for layer in doublings)
    for layer in layers:
        most = components.count if layer is layers[-1] else width(layer) - 2
        if isinstance(layer, SpatialConv):
            mix, x_BTCHW = layer, x_BTCHW[:, :, :most]
        else:
            doubling = cast("HybridUpsample", layer)
            mix = doubling.mix
            if doubling.temporal is not None:
                time //= 2
                x_BTCHW = _fit_frames(doubling.temporal, x_BTCHW, _joined(components, time, space, most))
            if doubling.spatial is not None:
                space //= 2
                x_BTCHW = _fit_cells(doubling.spatial, x_BTCHW, _joined(components, time, space, most))
        if layer is layers[-1]:
            mirror(mix, min(components.count, x_BTCHW.shape[2]))
        else:
            pass_on(mix)

    set_identity(decoder.conv_out)
    spatial, temporal = factors(decoder.conv_out)
    back_DK = (basis_KD * size_K.sqrt()[:, None]).T
    scale_D = w_BTDHW.std((0, 1, 3, 4)).clamp_min(1e-4)
    spatial.weight[:, : components.count, 1, 1] = back_DK / scale_D[:, None]
    spatial.weight[:, components.count : 2 * components.count, 1, 1] = -back_DK / scale_D[:, None]
    bias(spatial).copy_(mean_D / scale_D)
    temporal.weight[:, :, 2] = torch.diag(scale_D)


def _joined(components: _Components, time: int, space: int, most: int) -> Tensor:
    """What a doubling should give: components of the blocks ``time x space x space`` that those after it part."""
    if time == space == 1:
        return components.x_BTKHW[:, :, :most]
    batch, frames, _, height, width = components.x_BTKHW.shape
    x_ND = blocks(components.in_pixels(), time=time, space=space)
    basis_KD, size_K = principal(x_ND, most)
    grid = {"b": batch, "t": -(-frames // time), "h": height // space, "w": width // space}
    return rearrange(x_ND @ basis_KD.T / size_K.sqrt(), "(b t h w) k -> b t k h w", **grid)


def _fit_cells(layer: SpatialConv, x_BTCHW: Tensor, target_BTKHW: Tensor) -> Tensor:
    """Set a doubling's convolution, and return what comes out.

    Repetition leaves the four cells of a block alike but for their neighbours: fit what 3x3 of them tell about the
    target.
    """
    wide_NCHW = F.interpolate(x_BTCHW.flatten(0, 1), scale_factor=2.0)
    features = (F.unfold(x[None], 3, padding=1)[0].T for x in wide_NCHW)
    weight_KN, bias_K = ridge(features, rearrange(target_BTKHW, "b t k h w -> (b t) (h w) k"))
    kept, given = len(bias_K), wide_NCHW.shape[1]
    taps = weight_KN.unflatten(1, (given, 3, 3))
    set_zero(layer)
    layer.weight[:kept, :given] = taps
    bias(layer)[:kept] = bias_K
    take_away(layer.weight[:, :, 1:2, 1:2], kept, 1.0)  # what repetition adds
    made_NKHW = F.conv2d(wide_NCHW, taps, bias_K, padding=1)
    return torch.cat([made_NKHW, wide_NCHW[:, kept:]], dim=1).unflatten(0, x_BTCHW.shape[:2])


def _fit_frames(layer: TemporalConv, x_BTCHW: Tensor, target_BTKHW: Tensor) -> Tensor:
    """Set a doubling's convolution over time, and return what comes out."""
    twice = x_BTCHW.repeat_interleave(2, dim=1)[:, 1:]
    padded = torch.cat([twice[:, :1], twice[:, :1], twice], dim=1)
    x_BTNHW = torch.stack([padded[:, tap : tap + twice.shape[1]] for tap in range(3)], dim=3).flatten(2, 3)
    features = (rearrange(x, "n h w -> (h w) n") for x in x_BTNHW.flatten(0, 1))
    weight_KN, bias_K = ridge(features, rearrange(target_BTKHW, "b t k h w -> (b t) (h w) k"))
    kept, given = len(bias_K), twice.shape[2]
    set_zero(layer)
    layer.weight[:kept, :given] = weight_KN.unflatten(1, (given, 3))
    layer.bias[:kept] = bias_K
    take_away(layer.weight[:, :, 2:], kept, 1.0)
    made_BTKHW = torch.einsum("kn,btnhw->btkhw", weight_KN, x_BTNHW) + bias_K[:, None, None]
    return torch.cat([made_BTKHW, twice[:, :, kept:]], dim=2)
