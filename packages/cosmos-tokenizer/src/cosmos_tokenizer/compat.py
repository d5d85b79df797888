"""``CausalVideoTokenizer`` and ``ImageTokenizer`` as in NVIDIA's Cosmos-Tokenizer library, signature for signature.

What differs from ``CausalTokenizer``: ``encode`` pads nothing and returns a tuple; ``forward`` takes and gives arrays
of bytes, cuts a clip into windows that know nothing of each other, and pads them black and centred. New code is better
served by ``load``.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from cosmos_tokenizer import fsq
from cosmos_tokenizer.checkpoint import load
from cosmos_tokenizer.compat_arrays import (
    numpy2tensor,
    pad_image_batch,
    pad_video_batch,
    tensor2numpy,
    unpad_image_batch,
    unpad_video_batch,
)
from cosmos_tokenizer.config import Media, TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.native_config import usual_groups

Checkpoint = str | Path
ReferenceConfig = Mapping[str, object]

# What every released network has.
_FIXED = {"in_channels": 3, "out_channels": 3, "patch_method": "haar", "z_factor": 1, "formulation": "AE"}
_NAMES: dict[Media, str] = {"image": "CI", "video": "CV"}


def load_model(
    checkpoint: Checkpoint, tokenizer_config: ReferenceConfig | None = None, device: str = "cuda"
) -> CausalTokenizer:
    """Both halves from a checkpoint of any layout that ``load`` reads."""
    return _with(load(checkpoint, preset=config_of(tokenizer_config), device=device), "encoder", "decoder")


def load_encoder_model(
    checkpoint: Checkpoint, tokenizer_config: ReferenceConfig | None = None, device: str = "cuda"
) -> CausalTokenizer:
    """The encoder from a checkpoint of it, or of both halves."""
    return _with(load(checkpoint, preset=config_of(tokenizer_config), device=device), "encoder")


def load_decoder_model(
    checkpoint: Checkpoint, tokenizer_config: ReferenceConfig | None = None, device: str = "cuda"
) -> CausalTokenizer:
    """The decoder from a checkpoint of it, or of both halves."""
    return _with(load(checkpoint, preset=config_of(tokenizer_config), device=device), "decoder")


class _Tokenizer(nn.Module):
    """What both classes share: the halves, and calls on tensors.

    Args:
        checkpoint: of both halves; serves encoding, decoding and ``autoencode``.
        checkpoint_enc, checkpoint_dec: of one half each, where only that is needed.
        tokenizer_config: the reference's dict of a network. It supplies only what the checkpoint cannot say.
        device: where to run.
        dtype: name of the torch dtype to run in.

    Raises:
        InputError: no checkpoint is given, it is not of this media, or what ``load`` raises.
    """

    media: Media

    def __init__(
        self,
        checkpoint: Checkpoint | None = None,
        checkpoint_enc: Checkpoint | None = None,
        checkpoint_dec: Checkpoint | None = None,
        tokenizer_config: ReferenceConfig | None = None,
        device: str = "cuda",
        dtype: str = "bfloat16",
    ) -> None:
        super().__init__()
        if checkpoint is None and checkpoint_enc is None and checkpoint_dec is None:
            raise InputError("no checkpoint is given: give checkpoint=, checkpoint_enc= or checkpoint_dec=")
        weights_dtype = getattr(torch, dtype, None)
        if not isinstance(weights_dtype, torch.dtype) or not weights_dtype.is_floating_point:
            raise InputError(f"dtype is {dtype!r}: use 'bfloat16', 'float16' or 'float32'")
        fields = None if tokenizer_config is None else {"name": _NAMES[self.media], **tokenizer_config}
        self._full = None if checkpoint is None else load_model(checkpoint, fields, device)
        self._encoder = self._full if checkpoint_enc is None else load_encoder_model(checkpoint_enc, fields, device)
        self._decoder = self._full if checkpoint_dec is None else load_decoder_model(checkpoint_dec, fields, device)
        for model in (self._full, self._encoder, self._decoder):
            if model is not None and model.config.media != self.media:
                raise InputError(
                    f"the checkpoint is of {model.config.media}, and {type(self).__name__} of {self.media}"
                )
        self.to(weights_dtype)

    @torch.no_grad()
    def encode(self, input_tensor: Float[Tensor, "B 3 *T H W"]) -> tuple[Tensor, ...]:
        """``(latents,)`` of a continuous tokenizer, ``(indices, codes)`` of a discrete one, without any padding.

        Args:
            input_tensor: in [-1, 1]; sides must be multiples of the spatial compression.
        """
        return _encode(self._half("encoder"), input_tensor)

    @torch.no_grad()
    def decode(
        self, input_latent: Float[Tensor, "B C *t h w"] | Int[Tensor, "B *t h w"]
    ) -> Float[Tensor, "B 3 *T H W"]:
        """Clip of some latents or indices, about [-1, 1] and not clamped."""
        return self._half("decoder").decode(input_latent)

    @torch.no_grad()
    def autoencode(self, input_tensor: Float[Tensor, "B 3 *T H W"]) -> Float[Tensor, "B 3 *T H W"]:
        """Encode and decode, by ``checkpoint`` where it was given."""
        encoder, decoder = (self._full or self._half(name) for name in ("encoder", "decoder"))
        return decoder.decode(_encode(encoder, input_tensor)[0])

    def _half(self, name: str) -> CausalTokenizer:
        model = self._encoder if name == "encoder" else self._decoder
        if model is None:
            raise InputError(f"there is no {name}: give checkpoint= or checkpoint_{name[:3]}=")
        return model

    def _autoencode_array(self, batch: np.ndarray) -> np.ndarray:
        model = self._full or self._half("encoder")
        return tensor2numpy(self.autoencode(numpy2tensor(batch, dtype=model.dtype, device=model.device)))


class CausalVideoTokenizer(_Tokenizer):
    """Video tokenizer with the reference's calls; see :class:`_Tokenizer` for the arguments."""

    media = "video"

    def forward(
        self, video: UInt8[np.ndarray, "B T H W 3"], temporal_window: int = 17
    ) -> UInt8[np.ndarray, "B T H W 3"]:
        """Reconstruct a clip of bytes, window by window.

        Args:
            video: bytes 0 ... 255.
            temporal_window: frames of a window; each is padded to 1 + 8 n frames and to sides of multiples of 16.
        """
        if temporal_window < 1:
            raise InputError(f"temporal_window is {temporal_window}: it must be at least 1")
        windows: list[np.ndarray] = []
        for start in range(0, video.shape[1], temporal_window):
            padded, crop = pad_video_batch(video[:, start : start + temporal_window])
            windows.append(unpad_video_batch(self._autoencode_array(padded), crop))
        return np.concatenate(windows, axis=1)


class ImageTokenizer(_Tokenizer):
    """Image tokenizer with the reference's calls; see :class:`_Tokenizer` for the arguments."""

    media = "image"

    def forward(self, image: UInt8[np.ndarray, "B H W 3"]) -> UInt8[np.ndarray, "B H W 3"]:
        """Reconstruct pictures of bytes, padded to sides of multiples of 16."""
        padded, crop = pad_image_batch(image)
        return unpad_image_batch(self._autoencode_array(padded), crop)


def _with(model: CausalTokenizer, *halves: str) -> CausalTokenizer:
    for half in halves:
        if getattr(model, half) is None:
            raise InputError(f"the checkpoint holds no {half}")
    return model


def _encode(model: CausalTokenizer, x: Tensor) -> tuple[Tensor, ...]:
    rank, cell = (4 if model.config.media == "image" else 5), model.config.spatial_compression
    if x.dim() != rank:
        raise InputError(f"the input has shape {tuple(x.shape)}: this {model.config.media} tokenizer takes {rank} axes")
    height, width = x.shape[-2:]
    if height % cell or width % cell:
        raise InputError(f"a frame of {height}x{width} has sides that are no multiples of {cell}: pad it first")
    z = model.encode_raw(x.unsqueeze(2) if rank == 4 else x)
    if model.config.kind == "continuous":
        return (z.squeeze(2) if rank == 4 else z,)
    codes = fsq.quantize(z, model.config.levels)
    indices = fsq.indices_of(codes, model.config.levels)
    return (indices.squeeze(1), codes.squeeze(2)) if rank == 4 else (indices, codes)


def config_of(fields: ReferenceConfig | None) -> TokenizerConfig | None:
    """The reference's dict of a network as a config; what only its training reads is left aside.

    Raises:
        InputError: a field is of something that no released network has, or of a wrong type.
    """
    if fields is None:
        return None
    for name, only in _FIXED.items():
        if fields.get(name, only) != only:
            raise InputError(f"tokenizer_config has {name} {fields[name]!r}: only {only!r} is built here")
    image = str(fields.get("name", "CV"))[1:2].upper() == "I"
    defaults = {"spatial_compression": 8, "temporal_compression": 8, "patch_size": 4, "channels": 128, "z_channels": 16}
    numbers: dict[str, Any] = {name: fields.get(name, default) for name, default in defaults.items()}
    levels, multipliers = fields.get("levels") or (), fields.get("channels_mult", (2, 4, 4))
    blocks = fields.get("num_res_blocks", 2)
    latent = fields.get("embedding_dim", 6) if levels else fields.get("latent_channels", 16)
    groups = fields.get("num_groups")
    if not all(isinstance(number, int) for number in (*numbers.values(), blocks, latent, groups or 1)):
        raise InputError(f"tokenizer_config has a field that is no integer: {dict(fields)}")
    if not all(isinstance(value, (list, tuple)) for value in (levels, multipliers)):
        raise InputError(f"tokenizer_config has levels or channels_mult that are no lists: {dict(fields)}")
    if image:
        numbers["temporal_compression"] = 1
    config = TokenizerConfig.from_dict(
        numbers
        | {
            "media": "image" if image else "video",
            "kind": "discrete" if levels else "continuous",
            "channel_multipliers": multipliers,
            "encoder_blocks": blocks,
            "decoder_blocks": blocks + 1,  # type: ignore[operator]
            "latent_channels": latent,
            "levels": levels,
            "legacy_upsample": bool(fields.get("legacy_mode", False)),
        }
    )
    return replace(config, norm_groups=groups or usual_groups(config))  # type: ignore[arg-type]
