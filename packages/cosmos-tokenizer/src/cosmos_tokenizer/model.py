"""The causal wavelet tokenizer (arXiv 2501.03575, section 4): clips to tokens and back. Read this file first."""

import hashlib
import json
from fractions import Fraction
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cosmos_tokenizer import fsq
from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.config import Resample, TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.folding import folded_decoder, folded_encoder
from cosmos_tokenizer.geometry import Geometry
from cosmos_tokenizer.network import Decoder, Encoder
from cosmos_tokenizer.statistics import LatentStatistics
from cosmos_tokenizer.streaming import StreamDecoder, StreamEncoder
from cosmos_tokenizer.tiling import Tiles, run_in_tiles

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
        self.folded_from: dict[str, str | None] | None = None

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

    def encode(
        self, video: Float[Tensor, "B 3 *T H W"], *, tiles: Tiles | None = None
    ) -> Float[Tensor, "B C *t h w"] | Int[Tensor, "B *t h w"]:
        """Latents of a continuous tokenizer, int32 indices of a discrete one.

        Args:
            video: clip in [-1, 1], any float dtype, on the model's device.
            tiles: cut large frames into tiles, which bounds memory and is an approximation; None for whole frames.

        Raises:
            InputError: the clip has the wrong rank, too small sides, integers, or several frames for an image
                tokenizer.
        """
        tokens = self.quantised(self.encode_raw(self._pad(self.as_clip(video)), tiles=tiles))
        return tokens.squeeze(-3) if video.dim() == 4 else tokens

    def decode(
        self,
        tokens: Float[Tensor, "B C *t h w"] | Int[Tensor, "B *t h w"],
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        tiles: Tiles | None = None,
    ) -> Float[Tensor, "B 3 *T H W"]:
        """Clip of some latents (continuous) or indices (discrete), about [-1, 1] and not clamped.

        Args:
            tokens: what ``encode`` returned, with or without the time axis for an image tokenizer.
            frames, size: frames and (height, width) of the clip that was encoded; they cut off what ``encode`` padded.
            tiles: as for :meth:`encode`.

        Raises:
            InputError: the tokens are of the other kind, of another width, or out of range; or ``frames`` and
                ``size`` do not belong to tokens of this shape.
        """
        z, still = self.as_latents(tokens)
        if not z.numel():
            raise InputError(f"tokens have shape {tuple(tokens.shape)}: there is nothing to decode")
        self.check_crop(z, frames, size)
        video = self.decode_raw(z, tiles=tiles)
        height, width = size or video.shape[-2:]
        video = video[:, :, :frames, :height, :width]
        return video.squeeze(2) if still else video

    def reconstruct(self, video: Float[Tensor, "B 3 *T H W"]) -> Float[Tensor, "B 3 *T H W"]:
        """``decode(encode(video))`` at the clip's own shape, with a gradient straight through the quantiser."""
        clip = self.as_clip(video)
        z = self.encode_raw(self._pad(clip))
        if self.config.kind == "discrete":
            z = fsq.quantize(z, self.config.levels)
        out = self.decode_raw(z)[:, :, : clip.shape[2], : clip.shape[3], : clip.shape[4]]
        return out.squeeze(2) if video.dim() == 4 else out

    forward = reconstruct

    def stream_encoder(self, *, window: int | None = None, tiles: Tiles | None = None, step: int = 1) -> StreamEncoder:
        """Encoder of a clip that comes in pieces; see :class:`StreamEncoder`."""
        return StreamEncoder(self, window=window, tiles=tiles, step=step)

    def stream_decoder(
        self,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        window: int | None = None,
        tiles: Tiles | None = None,
        step: int = 1,
    ) -> StreamDecoder:
        """Decoder of a clip whose tokens come in pieces; see :class:`StreamDecoder`."""
        return StreamDecoder(self, frames=frames, size=size, window=window, tiles=tiles, step=step)

    def fold(self) -> "CausalTokenizer":
        """The inference form: the same results up to rounding, faster; it is neither trained nor saved.

        Weights that folding leaves alone are shared with this model.
        """
        if self.folded:
            return self
        folded = CausalTokenizer.__new__(CausalTokenizer)
        nn.Module.__init__(folded)
        folded.config, folded.statistics = self.config, self.statistics
        folded.encoder = None if self.encoder is None else folded_encoder(self.encoder, self.config)
        folded.decoder = None if self.decoder is None else folded_decoder(self.decoder, self.config)
        folded.folded_from = self.fingerprint
        return folded.train(self.training)

    @property
    def folded(self) -> bool:
        """Whether this is what :meth:`fold` returned."""
        return self.folded_from is not None

    def encode_raw(
        self, video: Float[Tensor, "B 3 T H W"], *, cache: FrameCache | None = None, tiles: Tiles | None = None
    ) -> Float[Tensor, "B C t h w"]:
        """The encoder network alone: no padding, no quantiser; a cache goes on with the clip that filled it."""
        if self.encoder is None:
            raise InputError("this checkpoint holds a decoder only: load one with an encoder to encode")
        if tiles is None:
            return self.encoder(video.to(self.dtype), cache)
        cell = self.config.spatial_compression
        tile, overlap = (count * cell for count in tiles.in_cells(cell))
        zoom = Fraction(1, cell)
        return run_in_tiles(self.encoder, video.to(self.dtype), cache, tile=tile, overlap=overlap, zoom=zoom)

    def decode_raw(
        self, z: Float[Tensor, "B C t h w"], *, cache: FrameCache | None = None, tiles: Tiles | None = None
    ) -> Float[Tensor, "B 3 T H W"]:
        """The decoder network alone, from latents or codes: no cropping; a cache as for :meth:`encode_raw`."""
        if self.decoder is None:
            raise InputError("this checkpoint holds an encoder only: load one with a decoder to decode")
        if tiles is None:
            return self.decoder(z.to(self.dtype), cache)
        cell = self.config.spatial_compression
        tile, overlap = tiles.in_cells(cell)
        return run_in_tiles(self.decoder, z.to(self.dtype), cache, tile=tile, overlap=overlap, zoom=Fraction(cell))

    def quantised(self, z: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B C t h w"] | Int[Tensor, "B t h w"]:
        """Indices of what a discrete encoder gave; latents as they are."""
        if self.config.kind == "continuous":
            return z
        if not z.is_meta and not bool(torch.isfinite(z).all()):  # which no index would show
            raise InputError(f"the latents are not finite in {z.dtype}: give a finite clip, or use float32")
        return fsq.codes_and_indices(z, self.config.levels)[1]

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
        checkpoint stored in bfloat16 keeps its fingerprint when loaded in float32. A folded model has that of the
        model it was made from.
        """
        if self.folded_from is not None:
            return self.folded_from
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

    def as_clip(self, video: Tensor) -> Tensor:
        shape = tuple(video.shape)
        if not video.shape[:1].numel():
            raise InputError(f"the clip has shape {shape}: a batch holds at least one")
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

    def pad_space(self, clip: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B 3 T _H _W"]:
        """Whole cells of pixels, by repeating the bottom row and the right column."""
        height, width = clip.shape[3:]
        rows, columns = self.geometry.padded_size(height, width)
        if (rows, columns) == (height, width):
            return clip
        return F.pad(clip, (0, columns - width, 0, rows - height, 0, 0), mode="replicate")

    def _pad(self, clip: Tensor) -> Tensor:
        clip = self.pad_space(clip)
        missing = self.geometry.padded_frames(clip.shape[2]) - clip.shape[2]
        return torch.cat([clip, clip[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2) if missing else clip

    def as_latents(self, tokens: Tensor) -> tuple[Tensor, bool]:
        discrete = self.config.kind == "discrete"
        if tokens.is_floating_point() == discrete:
            got = "latents" if discrete else "indices"
            raise InputError(f"got {got} ({tokens.dtype}), but this tokenizer is {self.config.kind}")
        rank = 4 if discrete else 5
        still = self.config.media == "image" and tokens.dim() == rank - 1
        if tokens.dim() != rank and not still:
            wanted = "B t h w" if discrete else "B C t h w"
            raise InputError(f"tokens have shape {tuple(tokens.shape)}: this tokenizer takes {wanted}")
        if not tokens.shape[0]:
            raise InputError(f"tokens have shape {tuple(tokens.shape)}: a batch holds at least one")
        z = self.codes(tokens) if discrete else tokens
        if z.shape[1] != self.config.latent_channels:
            raise InputError(f"latents have {z.shape[1]} channels: this tokenizer has {self.config.latent_channels}")
        return (z.unsqueeze(2), True) if still else (z, False)

    def check_crop(self, z: Tensor, frames: int | None, size: tuple[int, int] | None) -> None:
        if frames is not None and self.geometry.latent_frames(frames) != z.shape[2]:
            raise InputError(f"{frames} frames do not belong to {z.shape[2]} latent frames")
        if size is not None and self.geometry.latent_size(*size) != tuple(z.shape[3:]):
            raise InputError(f"a size of {size[0]}x{size[1]} does not belong to latents of {z.shape[3]}x{z.shape[4]}")
