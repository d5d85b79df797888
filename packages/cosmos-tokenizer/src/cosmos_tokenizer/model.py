"""The causal wavelet tokenizer (arXiv 2501.03575, section 4): clips to tokens and back. Read this file first."""

import hashlib
import json
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cosmos_tokenizer import fsq
from cosmos_tokenizer.config import Resample, TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.geometry import Geometry
from cosmos_tokenizer.network import Decoder, Encoder
from cosmos_tokenizer.statistics import LatentStatistics

Parts = Literal["both", "encoder", "decoder"]


class CausalTokenizer(nn.Module):
    """Encoder, optional finite scalar quantiser, decoder; one class for training and inference.

    A clip is ``B 3 T H W`` in [-1, 1]; image tokenizers take ``B 3 H W`` or T = 1. Any T >= 1 and H, W >= 16 works: a
    clip is extended to whole cells by repeating its last frame, bottom row and right column, and what was added is
    cut off again after decoding. The padding stands only at the ends, so that pixel (0, 0) and frame 0 stay where a
    clip without padding has them (a causal net gives frame 0 a latent of its own), and it repeats instead of being
    black, because a black border would shift the statistics that normalise each frame.

    Args:
        config: the network; see ``PRESETS``.
        parts: build only the encoder or only the decoder of a checkpoint that holds one of them.
        statistics: mean and deviation of the latents, where they were measured.
    """

    def __init__(
        self, config: TokenizerConfig, *, parts: Parts = "both", statistics: LatentStatistics | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config) if parts in ("both", "encoder") else None
        self.decoder = Decoder(config) if parts in ("both", "decoder") else None
        self.statistics = statistics

    @property
    def geometry(self) -> Geometry:
        """Frames and sizes of clips against those of latents."""
        return Geometry(temporal=self.config.temporal_compression, spatial=self.config.spatial_compression)

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the weights, in which the network runs."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def encode(self, video: Float[Tensor, "B 3 *T H W"]) -> Float[Tensor, "B C *t h w"] | Int[Tensor, "B *t h w"]:
        """Latents of a continuous tokenizer, int32 indices of a discrete one.

        Args:
            video: clip in [-1, 1], any float dtype, on the model's device.

        Raises:
            InputError: the clip has the wrong rank, too small sides, integers, or several frames for an image
                tokenizer.
        """
        z = self.encode_raw(self._pad(self._as_clip(video)))
        if self.config.kind == "discrete":
            z = fsq.indices_of(fsq.quantize(z, self.config.levels), self.config.levels)
        return z.squeeze(-3) if video.dim() == 4 else z

    def decode(
        self,
        tokens: Float[Tensor, "B C *t h w"] | Int[Tensor, "B *t h w"],
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "B 3 *T H W"]:
        """Clip of some latents (continuous) or indices (discrete), about [-1, 1] and not clamped.

        Args:
            tokens: what ``encode`` returned, with or without the time axis for an image tokenizer.
            frames, size: frames and (height, width) of the clip that was encoded; they cut off what ``encode`` padded.

        Raises:
            InputError: the tokens are of the other kind, of another width, or out of range; or ``frames`` and
                ``size`` do not belong to tokens of this shape.
        """
        z, still = self._as_latents(tokens)
        self._check_crop(z, frames, size)
        video = self.decode_raw(z)
        height, width = size or video.shape[-2:]
        video = video[:, :, :frames, :height, :width]
        return video.squeeze(2) if still else video

    def reconstruct(self, video: Float[Tensor, "B 3 *T H W"]) -> Float[Tensor, "B 3 *T H W"]:
        """``decode(encode(video))`` at the clip's own shape, with a gradient straight through the quantiser."""
        clip = self._as_clip(video)
        z = self.encode_raw(self._pad(clip))
        if self.config.kind == "discrete":
            z = fsq.quantize(z, self.config.levels)
        out = self.decode_raw(z)[:, :, : clip.shape[2], : clip.shape[3], : clip.shape[4]]
        return out.squeeze(2) if video.dim() == 4 else out

    forward = reconstruct

    def encode_raw(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B C t h w"]:
        """The encoder network alone: no padding, no quantiser."""
        if self.encoder is None:
            raise InputError("this checkpoint holds a decoder only: load one with an encoder to encode")
        return self.encoder(video.to(self.dtype))

    def decode_raw(self, z: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B 3 T H W"]:
        """The decoder network alone, from latents or codes: no cropping."""
        if self.decoder is None:
            raise InputError("this checkpoint holds an encoder only: load one with a decoder to decode")
        return self.decoder(z.to(self.dtype))

    def codes(self, indices: Int[Tensor, "B *t h w"]) -> Float[Tensor, "B C *t h w"]:
        """Normalised FSQ codes in [-1, 1] of some indices, in the model's dtype."""
        if self.config.kind != "discrete":
            raise InputError("a continuous tokenizer has no codes: its latents are what the decoder takes")
        return fsq.codes_of(indices, self.config.levels, self.dtype)

    def normalize(self, z: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B C t h w"]:
        """Latents to mean 0 and deviation 1 by ``statistics``; see :class:`LatentStatistics` for long clips."""
        return self._known_statistics().normalize(z)

    def denormalize(self, z: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B C t h w"]:
        """Inverse of :meth:`normalize`."""
        return self._known_statistics().denormalize(z)

    @property
    def fingerprint(self) -> dict[str, str | None]:
        """SHA-256 of what each half ("encoder", "decoder") computes; None for a half that is absent.

        A half is its weights and what their shapes do not say of its graph. Nothing of the other half counts, so that
        a half loaded on its own has the fingerprint that it has in the whole. Weights are hashed as float32, so a
        checkpoint stored in bfloat16 keeps its fingerprint when loaded in float32.
        """
        return {
            "encoder": self._hash(self.encoder, self.config.downsamples),
            "decoder": self._hash(self.decoder, self.config.upsamples),
        }

    def _hash(self, half: nn.Module | None, plan: tuple[Resample, ...]) -> str | None:
        if half is None:
            return None
        graph = {name: getattr(self.config, name) for name in ("media", "kind", "patch_size", "norm_groups", "levels")}
        graph["plan"] = [[level.spatial, level.temporal] for level in plan]
        digest = hashlib.sha256(json.dumps(graph, sort_keys=True).encode())
        for name, value in sorted(half.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy())
        return digest.hexdigest()

    def _known_statistics(self) -> LatentStatistics:
        if self.statistics is None:
            raise InputError("this checkpoint carries no latent statistics: latents cannot be normalised by it")
        return self.statistics

    def _as_clip(self, video: Tensor) -> Tensor:
        shape = tuple(video.shape)
        if not video.is_floating_point():
            raise InputError(f"the clip is {video.dtype}: scale it to floats in [-1, 1]")
        if self.config.media == "image" and video.dim() == 4:
            video = video.unsqueeze(2)
        if video.dim() != 5 or video.shape[1] != 3:
            wanted = "B 3 H W or B 3 1 H W" if self.config.media == "image" else "B 3 T H W"
            raise InputError(f"the clip has shape {shape}: this {self.config.media} tokenizer takes {wanted}")
        if self.config.media == "image" and video.shape[2] != 1:
            raise InputError(f"the clip has {video.shape[2]} frames: an image tokenizer takes one (fold frames into B)")
        return video

    def _pad(self, clip: Tensor) -> Tensor:
        frames, height, width = clip.shape[2:]
        padded = (self.geometry.padded_frames(frames), *self.geometry.padded_size(height, width))
        if padded == (frames, height, width):
            return clip
        return F.pad(clip, (0, padded[2] - width, 0, padded[1] - height, 0, padded[0] - frames), mode="replicate")

    def _as_latents(self, tokens: Tensor) -> tuple[Tensor, bool]:
        discrete = self.config.kind == "discrete"
        if tokens.is_floating_point() == discrete:
            got = "latents" if discrete else "indices"
            raise InputError(f"got {got} ({tokens.dtype}), but this tokenizer is {self.config.kind}")
        rank = 4 if discrete else 5
        still = self.config.media == "image" and tokens.dim() == rank - 1
        if tokens.dim() != rank and not still:
            wanted = "B t h w" if discrete else "B C t h w"
            raise InputError(f"tokens have shape {tuple(tokens.shape)}: this tokenizer takes {wanted}")
        z = self.codes(tokens) if discrete else tokens
        if z.shape[1] != self.config.latent_channels:
            raise InputError(f"latents have {z.shape[1]} channels: this tokenizer has {self.config.latent_channels}")
        return (z.unsqueeze(2), True) if still else (z, False)

    def _check_crop(self, z: Tensor, frames: int | None, size: tuple[int, int] | None) -> None:
        if frames is not None and self.geometry.latent_frames(frames) != z.shape[2]:
            raise InputError(f"{frames} frames do not belong to {z.shape[2]} latent frames")
        if size is not None and self.geometry.latent_size(*size) != tuple(z.shape[3:]):
            raise InputError(f"a size of {size[0]}x{size[1]} does not belong to latents of {z.shape[3]}x{z.shape[4]}")
