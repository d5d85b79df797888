"""A start for small tokenizers: weights that make the network a linear block transform, fitted by principal components.

A net of this family started at random needs days to pass a block PCA; started as one, it only has to improve on it.
Three tricks make the network linear: second convolutions and attention outputs are zero, so that residual branches
vanish; two channels of the trunk hold constants far larger than the rest, so that the per-frame norms divide by a
constant; and SiLU sees mirrored channels, since silu(x) - silu(-x) = x.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cosmos_tokenizer import CausalTokenizer, TokenizerConfig, fsq, haar
from cosmos_tokenizer.attention import MidBlock
from cosmos_tokenizer.layers import FactorisedConv, ResBlock, SpatialConv
from cosmos_tokenizer.network import Decoder, Encoder
from cosmos_tokenizer.resampling import HybridDownsample, HybridUpsample

CONSTANT = 100.0
RIDGE = 1e-4
ROTATIONS = 300


class Scaled(nn.Module):
    """Parametrisation that multiplies a parameter by a fixed factor, so that an optimiser sees it at unit scale."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, value: Tensor) -> Tensor:
        """Parameter as the network uses it."""
        return value * self.scale

    def right_inverse(self, value: Tensor) -> Tensor:
        """Parameter as the optimiser sees it."""
        return value / self.scale


@torch.no_grad()
def start(model: CausalTokenizer, clips: Float[Tensor, "B 3 T H W"]) -> None:
    """Set every weight of a two-level video tokenizer from ``clips``, freeze its constant channels, rescale its ends.

    Wavelet coefficients differ in size by a factor of hundreds: the first convolution's input side and the last one's
    output are parametrised so that they are trained at unit scale. :func:`finish` folds that into plain weights.

    Args:
        model: built from a config with two levels, no temporal halving, and a second level twice as wide as the first.
        clips: some hundred clips in [-1, 1] of the training data.
    """
    config = model.config
    assert model.encoder is not None
    assert model.decoder is not None
    coefficients = haar.patch(clips, patch_size=config.patch_size, media="video")
    w = rearrange(coefficients, "b d t h w -> b t d h w")
    mean, scale = w.mean((0, 1, 3, 4)), w.std((0, 1, 3, 4)).clamp_min(1e-4)
    _silence_branches(model)
    _set_trunk_norms(model)
    _start_encoder(model.encoder, config, w, mean)
    z = model.encode_raw(clips)
    if config.kind == "discrete":
        _spread_over_levels(model.encoder, config, z)
        z = fsq.quantize(model.encode_raw(clips), config.levels)
    _start_decoder(model.decoder, config, rearrange(z, "b c t h w -> b t c h w"), w, mean)
    _freeze_constants(model)
    spatial, temporal = model.encoder.conv_in.spatial, model.decoder.conv_out.temporal
    parametrize.register_parametrization(spatial, "weight", Scaled(1 / scale[None, :, None, None]))
    parametrize.register_parametrization(temporal, "weight", Scaled(scale[:, None, None]))
    parametrize.register_parametrization(temporal, "bias", Scaled(scale))


def finish(model: CausalTokenizer) -> None:
    """Fold the rescaled ends into plain weights; the outputs stay as they are."""
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _silence_branches(model: CausalTokenizer) -> None:
    for module in model.modules():
        if isinstance(module, ResBlock):
            _zero(module.conv2.temporal)
        if isinstance(module, MidBlock):
            _zero(module.spatial_attention.proj)
            _zero(module.temporal_attention.proj)


def _start_encoder(encoder: Encoder, config: TokenizerConfig, w_BTDHW: Tensor, mean: Tensor) -> None:
    first, second = encoder.down
    kept = config.channels - 2
    centred = w_BTDHW - mean[:, None, None]
    basis, size = _principal(rearrange(centred, "b t d h w -> (b t h w) d"), kept)
    project = basis / size.sqrt()[:, None]
    _identity(encoder.conv_in)
    encoder.conv_in.spatial.weight[:kept, :, 1, 1] = project
    encoder.conv_in.spatial.bias[:kept] = -project @ mean
    _hold_constants(encoder.conv_in.temporal)

    # Components of the four cells under each cell of the next level, in the size they have in pixels.
    y = torch.einsum("kd,btdhw->btkhw", basis, centred)
    cells = rearrange(y, "b t k (h i) (w j) -> (b t h w) (i j k)", i=2, j=2)
    basis, size_below = _principal(cells, kept)
    taps = basis.unflatten(1, (2, 2, kept)) * size.sqrt() / size_below.sqrt()[:, None, None, None]
    down = first.downsample
    assert isinstance(down, HybridDownsample)
    _zero(down.spatial)
    down.spatial.weight[:kept, :kept, :2, :2] = rearrange(taps, "o i j k -> o k i j")
    down.spatial.weight[:kept, :kept, :2, :2] -= torch.eye(kept)[:, :, None, None] / 4
    _identity(down.mix)

    _mirror(second.block[0].shortcut, kept)
    _identity(encoder.conv_out)
    channel = torch.arange(config.z_channels)
    encoder.conv_out.spatial.weight[channel, channel, 1, 1] = size_below[: config.z_channels] ** -0.5
    encoder.conv_out.spatial.weight[channel, kept + channel, 1, 1] = -(size_below[: config.z_channels] ** -0.5)
    _identity(encoder.quant_conv)


def _spread_over_levels(encoder: Encoder, config: TokenizerConfig, z_BCTHW: Tensor) -> None:
    """Turn the leading components so that the quantiser's levels are used well: the best of some random rotations."""
    count = config.latent_channels
    size = encoder.conv_out.spatial.weight.diagonal(dim1=0, dim2=1)[1, 1, :count] ** -2
    c = rearrange(z_BCTHW, "b c t h w -> (b t h w) c")
    c = c[torch.randperm(len(c))[:20000]] * size
    best, chosen = float("inf"), torch.eye(count)
    for _ in range(ROTATIONS):
        rotation = torch.linalg.qr(torch.randn(count, count)).Q
        reach = torch.empty(()).uniform_(0.6, 1.4)
        mix = reach * rotation / (c @ rotation.T).std(0)[:, None]
        codes = fsq.quantize((c @ mix.T)[:, :, None, None, None], config.levels).flatten(1)
        codes = F.pad(codes, (0, 1), value=1.0)
        error = (codes @ torch.linalg.lstsq(codes, c).solution - c).square().mean()
        if error < best:
            best, chosen = error, mix * size
    encoder.quant_conv.weight.zero_()
    encoder.quant_conv.weight[:, :count, 0, 0] = chosen


def _start_decoder(decoder: Decoder, config: TokenizerConfig, z_BTCHW: Tensor, w_BTDHW: Tensor, mean: Tensor) -> None:
    first, second = decoder.up
    kept = (config.channels - 2) // 2
    centred = w_BTDHW - mean[:, None, None]
    basis, size = _principal(rearrange(centred, "b t d h w -> (b t h w) d"), kept)
    target = torch.einsum("kd,btdhw->btkhw", basis / size.sqrt()[:, None], centred)

    _identity(decoder.post_quant_conv)
    random = decoder.conv_in.spatial.weight.clone()
    _identity(decoder.conv_in)
    decoder.conv_in.spatial.weight.copy_(random)
    decoder.conv_in.spatial.weight[: config.z_channels] = 0
    decoder.conv_in.spatial.weight[range(config.z_channels), range(config.z_channels), 1, 1] = 1
    _hold_constants(decoder.conv_in.temporal)

    # Repetition leaves the four cells of a block alike but for their neighbours: fit what 3x3 of them tell about the
    # target.
    up = second.upsample
    assert isinstance(up, HybridUpsample)
    trunk = decoder.conv_in(decoder.post_quant_conv(z_BTCHW))[:, :, :-2]
    wide = F.interpolate(trunk.flatten(0, 1), scale_factor=2.0)
    fit = _ridge(wide, target.flatten(0, 1))
    _zero(up.spatial)
    up.spatial.weight[:kept, :-2] = fit[:, :-1].unflatten(1, (-1, 3, 3))
    up.spatial.weight[range(kept), range(kept), 1, 1] -= 1
    up.spatial.bias[:kept] = fit[:, -1]
    _identity(up.mix)

    _mirror(first.block[0].shortcut, kept)
    _identity(decoder.conv_out)
    back = (basis * size.sqrt()[:, None]).T
    scale = w_BTDHW.std((0, 1, 3, 4)).clamp_min(1e-4)
    decoder.conv_out.spatial.weight[:, :kept, 1, 1] = back / scale[:, None]
    decoder.conv_out.spatial.weight[:, kept : 2 * kept, 1, 1] = -back / scale[:, None]
    decoder.conv_out.spatial.bias.copy_(mean / scale)
    decoder.conv_out.temporal.weight[:, :, 2] = torch.diag(scale)


def _set_trunk_norms(model: CausalTokenizer) -> None:
    for norm in _trunk_norms(model):
        norm.weight.fill_(CONSTANT * (2 / norm.num_channels) ** 0.5)
        norm.weight[-2:] = 0
        norm.bias.zero_()


def _freeze_constants(model: CausalTokenizer) -> None:
    """Keep the constants constant: whatever Adam adds to a weight that reads them comes out a hundredfold."""
    for norm in _trunk_norms(model):
        _freeze(norm)
    for module in model.modules():
        match module:
            case ResBlock():
                _freeze(module.conv2.temporal)
                if isinstance(module.shortcut, SpatialConv):
                    _freeze(module.shortcut, columns=True)
            case MidBlock():
                _freeze(module.spatial_attention.proj)
                _freeze(module.temporal_attention.proj)
            case HybridDownsample() | HybridUpsample():
                _freeze(module.spatial, columns=True)
                _freeze(module.mix, columns=True)
            case Encoder() | Decoder():
                _freeze(module.conv_in.temporal)
            case _:
                pass


def _trunk_norms(model: CausalTokenizer) -> list[nn.GroupNorm]:
    norms = []
    for module in model.modules():
        match module:
            case ResBlock():
                norms.append(module.norm1)
            case MidBlock():
                norms += [module.spatial_attention.norm, module.temporal_attention.norm]
            case Encoder() | Decoder():
                norms.append(module.norm_out)
            case _:
                pass
    return norms


def _freeze(layer: nn.Module, *, columns: bool = False) -> None:
    for name, parameter in layer.named_parameters():
        mask = torch.ones_like(parameter)
        mask[-2:] = 0
        if columns and name == "weight":
            mask[:, -2:] = 0
        parameter.register_hook(mask.mul)


def _hold_constants(layer: nn.Module) -> None:
    layer.weight[-2:] = 0
    layer.bias[-2:] = torch.tensor([CONSTANT, -CONSTANT])


def _mirror(shortcut: SpatialConv, kept: int) -> None:
    _zero(shortcut)
    channel = torch.arange(kept)
    shortcut.weight[channel, channel] = 1
    shortcut.weight[kept + channel, channel] = -1
    shortcut.weight[[-2, -1], [-2, -1]] = 1


def _identity(layer: nn.Module) -> None:
    """Pass channels through as far as both sides have them; a factorised layer keeps only its temporal half."""
    if isinstance(layer, FactorisedConv):
        _zero(layer.spatial)
        _zero(layer.temporal)
        layer.temporal.weight[:, :, 2] = torch.eye(*layer.temporal.weight.shape[:2])
        return
    _zero(layer)
    layer.weight[:, :, 0, 0] = torch.eye(*layer.weight.shape[:2])


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def _principal(x_ND: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Leading ``count`` principal axes as rows, and the deviation along each."""
    x = x_ND.double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    order = values.argsort(descending=True)[:count]
    return vectors[:, order].T.float(), values[order].clamp_min(1e-12).sqrt().float()


def _ridge(x_NCHW: Tensor, y_NKHW: Tensor, rows: int = 150_000) -> Tensor:
    """Weights ``K (C 9 + 1)`` of the 3x3 convolution with bias that takes ``x`` nearest to ``y``."""
    gram, cross, seen = 0.0, 0.0, 0
    for x, y in zip(x_NCHW, y_NKHW, strict=True):
        features = F.pad(F.unfold(x[None], 3, padding=1)[0].T, (0, 1), value=1.0).double()
        gram = gram + features.T @ features
        cross = cross + features.T @ y.flatten(1).T.double()
        seen += len(features)
        if seen >= rows:
            break
    diagonal = gram.diagonal().mean() * RIDGE
    return torch.linalg.solve(gram + diagonal * torch.eye(len(gram), dtype=torch.double), cross).T.float()
