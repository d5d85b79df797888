"""What a tokenizer's forward pass keeps for the backward one, and its operations, counted on the meta device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from cosmos_posttrain.estimate.models import Clip
from cosmos_tokenizer import CausalTokenizer, Geometry, InputError, TokenizerConfig

_FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward:
    """`parameters` of a network, bytes `saved` for its backward pass, and `flops` of its forward pass."""

    parameters: int
    saved: int
    flops: int


def tokenizer_forward(
    config: TokenizerConfig, clip: Clip, *, batch: int = 1, dtype: torch.dtype = torch.bfloat16
) -> Forward:
    """Of a tokenizer that reconstructs clips in a dtype, with fused attention; nothing is allocated.

    Raises:
        InputError: the tokenizer does not take such a clip without padding.
    """
    geometry = Geometry(temporal=config.temporal_compression, spatial=config.spatial_compression)
    frames, size = geometry.padded_frames(clip.frames), geometry.padded_size(clip.height, clip.width)
    if config.media == "image" and clip.frames != 1:
        raise InputError(f"frames is {clip.frames}: an image tokenizer takes 1")
    if frames != clip.frames:
        near = f"such as {max(1, frames - geometry.temporal)} or {frames}"
        raise InputError(f"frames is {clip.frames}: give 1 + a multiple of {geometry.temporal}, {near}")
    for name, pixels, whole in (("height", clip.height, size[0]), ("width", clip.width, size[1])):
        if whole != pixels:
            raise InputError(f"{name} is {pixels}: give a multiple of {geometry.spatial}, such as {whole}")
    with torch.device("meta"):
        net = CausalTokenizer(config).to(dtype)
    video = torch.empty(batch, 3, clip.frames, clip.height, clip.width, dtype=dtype, device="meta")
    return counted(net, lambda: net(video))


def counted(net: nn.Module, call: Callable[[], object]) -> Forward:
    """Watch a forward pass of a network, on the meta device or on another.

    Storages count once and whole; those of parameters do not.
    """
    parameters = list(net.parameters())
    own = {parameter.untyped_storage()._cdata for parameter in parameters}
    kept: list[Tensor] = []  # no storage may take another's place

    def keep(value: Tensor) -> Tensor:
        kept.append(value)
        return value

    counter = FlopCounterMode(display=False, custom_mapping={_FUSED: _attention_flops})
    with saved_tensors_hooks(keep, lambda value: value), counter, _AsOnDevices():
        result = call()
    sizes = {value.untyped_storage()._cdata: value.untyped_storage().nbytes() for value in kept}
    saved = sum(size for key, size in sizes.items() if key not in own)
    del result  # the graph, which holds on to what was kept
    return Forward(
        parameters=sum(parameter.numel() for parameter in parameters), saved=saved, flops=counter.get_total_flops()
    )


class _AsOnDevices(TorchFunctionMode):
    """Has meta tensors do as real ones do: attention is fused, and frames that are channels last stay so uncopied."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        named = dict(kwargs or {})
        if not (args and isinstance(args[0], Tensor) and args[0].is_meta):
            return func(*args, **named)
        if func is F.scaled_dot_product_attention:
            return _FUSED(*args, **named)[0]
        result = _group_norm(*args, **named) if func is F.group_norm else func(*args, **named)
        if func in (F.conv2d, F.group_norm) and args[0].is_contiguous(memory_format=torch.channels_last):
            return result.contiguous(memory_format=torch.channels_last)
        return result


def _group_norm(
    x_NCHW: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    frames, channels, height, width = x_NCHW.shape
    return torch.native_group_norm(x_NCHW, weight, bias, frames, channels, height * width, groups, eps)[0]


def _attention_flops(q: Sequence[int], k: Sequence[int], v: Sequence[int], *given: object, **named: object) -> int:
    return sdpa_flop_count(q, k, v)
