"""Endless clips, piece by piece: exact, since no layer of arXiv 2501.03575, section 4.1, looks ahead.

Between pieces each causal layer keeps the frames that it still needs, which does not grow. Only the temporal attention
of the middle block keeps keys and values of every latent frame so far; ``window`` bounds it, and is exact for as long
as the clip has no more latent frames than that.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.tiling import Tiles

if TYPE_CHECKING:
    from cosmos_tokenizer.model import CausalTokenizer

WINDOW = 16
"""Latent frames that the command line and exported steps let attention look back on, the present one included."""


class _Stream:
    def __init__(self, model: "CausalTokenizer", window: int | None, tiles: Tiles | None, step: int) -> None:
        if model.config.media == "image":
            raise InputError("an image tokenizer has no past to stream: encode the pictures as a batch")
        for name, value in (("window", window), ("step", step)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give at least 1 latent frame")
        self._model, self._tiles, self._step = model, tiles, step
        self._cache = FrameCache(window=window)
        self._done = False
        self._seen: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the stream remembers between pieces."""
        return self._cache.nbytes

    def _check_open(self) -> None:
        if self._done:
            raise InputError("this stream was flushed, which ends its clip: begin another for the next one")

    def _check_same(self, piece: Tensor) -> None:
        """Refuse a piece of another batch or another size than the ones before."""
        batch, (height, width) = piece.shape[0], piece.shape[3:]
        if self._seen is None:
            self._seen = (batch, height, width)
        elif self._seen != (batch, height, width):
            was = f"{self._seen[0]} clips of {self._seen[1]}x{self._seen[2]}"
            raise InputError(f"got {batch} clips of {height}x{width} after {was}: begin a new stream")


class StreamEncoder(_Stream):
    """Encoder of one clip, or one batch of clips, that comes in pieces of any length.

    The pieces of the result, one after another, equal ``encode`` of the whole clip.

    Args:
        model: video tokenizer with an encoder.
        window: latent frames that temporal attention looks back on; None keeps all of them.
        tiles: cut large frames into tiles.
        step: latent frames that go through the network at once; more are faster and take more memory.
    """

    def __init__(
        self, model: "CausalTokenizer", *, window: int | None = None, tiles: Tiles | None = None, step: int = 1
    ) -> None:
        super().__init__(model, window, tiles, step)
        self._waiting: Tensor | None = None

    @torch.no_grad()
    def push(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B C t h w"] | Int[Tensor, "B t h w"] | None:
        """Latents or indices that ``video`` completes; None where it completes none.

        Args:
            video: the next frames, in [-1, 1], as many as there are.

        Raises:
            InputError: the frames are of another size than those before, or the stream was flushed.
        """
        self._check_open()
        clip = self._model.as_clip(video)
        self._model.geometry.padded_size(clip.shape[3], clip.shape[4])  # refuses what is too small before it is noted
        self._check_same(clip)
        if not clip.shape[2]:
            return None
        clip = self._model.pad_space(clip)
        self._waiting = clip if self._waiting is None else torch.cat([self._waiting, clip], dim=2)
        found = []
        while (take := self._next_piece()) > 0:
            found.append(self._encode(self._waiting[:, :, :take].contiguous()))
            self._waiting = self._waiting[:, :, take:]
        self._waiting = self._waiting.clone()  # not a view of frames that are done with
        return torch.cat(found, dim=-3) if found else None

    @torch.no_grad()
    def flush(self) -> Float[Tensor, "B C t h w"] | Int[Tensor, "B t h w"] | None:
        """End the clip: the last latent frame if some of its frames are missing, as ``encode`` pads it; else None."""
        self._check_open()
        self._done = True
        if self._waiting is None or not self._waiting.shape[2]:
            return None
        missing = self._model.geometry.temporal - self._waiting.shape[2]
        last = self._waiting[:, :, -1:].expand(-1, -1, missing, -1, -1)
        return self._encode(torch.cat([self._waiting, last], dim=2))

    def _next_piece(self) -> int:
        """Frames of the next pass: one at the start, then whole latent frames."""
        have = 0 if self._waiting is None else self._waiting.shape[2]
        if not self._cache.started:
            return min(have, 1)
        unit = self._model.geometry.temporal
        return min(have // unit, self._step) * unit

    def _encode(self, clip: Tensor) -> Tensor:
        return self._model.quantised(self._model.encode_raw(clip, cache=self._cache, tiles=self._tiles))


class StreamDecoder(_Stream):
    """Decoder of one clip, or one batch of clips, whose latents or indices come in pieces of any length.

    The pieces of the result, one after another, equal ``decode`` of the whole.

    Args:
        model: video tokenizer with a decoder.
        frames, size: frames and (height, width) of the clip that was encoded; what lies behind is cut off.
        window, tiles, step: as for :class:`StreamEncoder`.
    """

    def __init__(
        self,
        model: "CausalTokenizer",
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        window: int | None = None,
        tiles: Tiles | None = None,
        step: int = 1,
    ) -> None:
        super().__init__(model, window, tiles, step)
        self._frames, self._size, self._latents = frames, size, 0

    @torch.no_grad()
    def push(self, tokens: Float[Tensor, "B C t h w"] | Int[Tensor, "B t h w"]) -> Float[Tensor, "B 3 T H W"] | None:
        """Frames of the next latents or indices, about [-1, 1]; None where ``tokens`` holds no frame.

        Raises:
            InputError: the tokens are not those of this tokenizer or of the size given, or more than ``frames`` need.
        """
        self._check_open()
        z, _ = self._model.as_latents(tokens)
        self._model.check_crop(z, None, self._size)
        geometry = self._model.geometry
        before, after = self._latents, self._latents + z.shape[2]
        if self._frames is not None and after > geometry.latent_frames(self._frames):
            raise InputError(f"{self._frames} frames do not belong to {after} latent frames")
        self._check_same(z)
        self._latents = after
        pieces, taken = [], 0
        while taken < z.shape[2]:
            count = 1 if not before + taken else self._step
            piece = z[:, :, taken : taken + count].contiguous()
            pieces.append(self._model.decode_raw(piece, cache=self._cache, tiles=self._tiles))
            taken += count
        if not pieces:
            return None
        video = torch.cat(pieces, dim=2)
        height, width = self._size or video.shape[3:]
        past = geometry.frames(before) if before else 0
        left = None if self._frames is None else self._frames - past
        return video[:, :, :left, :height, :width]

    def flush(self) -> None:
        """End the clip; a decoder has nothing left to give.

        Raises:
            InputError: fewer latents came than ``frames`` need.
        """
        self._check_open()
        self._done = True
        if self._frames is not None and self._latents != self._model.geometry.latent_frames(self._frames):
            raise InputError(f"{self._frames} frames do not belong to {self._latents} latent frames")
