"""How a clip of any length goes through a tokenizer: in passes of a few latent frames, with what is kept between them.

Temporal attention sees `WINDOW` latent frames unless it is to be exact: arXiv 2501.03575, section 4, trains on clips
of up to 121 frames, 16 latent frames at 8x, and no released network has seen longer ones.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.streaming import WINDOW, StreamDecoder, StreamEncoder
from cosmos_tokenizer.tiling import Tiles

# A pass takes as many latent frames as hold this many pixels: enough to keep the products busy with small frames
# (64x64 goes 16 latent frames at a time), and never more memory than one latent frame of about 720p, which goes alone.
_PIXELS = 1 << 20
_LONGEST_STEP = 16


Run = Callable[[Callable[[], Tensor | None]], Tensor | None]
"""Calls what it is given once and returns the result; what measures time stands around it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Passes:
    """One clip's way through a model: `step` latent frames a pass, attention over `window` of them, tiles or none."""

    model: CausalTokenizer
    size: tuple[int, int]
    step: int
    window: int | None
    tiles: Tiles | None

    @property
    def frames(self) -> int:
        """Frames of a pass, but for the first, which takes one."""
        return self.step * self.model.geometry.temporal

    @property
    def exact_frames(self) -> int | None:
        """Frames up to which the window changes nothing; None without a window."""
        return None if self.window is None else self.model.geometry.frames(self.window)

    def bounds(self, frames: int) -> bool:
        """Whether the window cuts something off a clip of that many frames."""
        return self.exact_frames is not None and frames > self.exact_frames

    def token_shape(self, frames: int) -> tuple[int, ...]:
        """Shape of the tokens of that many frames, C t h w or t h w."""
        config, geometry = self.model.config, self.model.geometry
        channels = (config.latent_channels,) if config.kind == "continuous" else ()
        return (*channels, geometry.latent_frames(frames), *geometry.latent_size(*self.size))

    def encode(
        self, pieces: Iterable[UInt8[np.ndarray, "T H W 3"]], run: Run = lambda call: call()
    ) -> Iterator[Tensor]:
        """Tokens ``1 C t h w`` or ``1 t h w`` of a clip, as soon as they are determined.

        Raises:
            InputError: as for the model's `encode`; or latents are not finite.
        """
        if self.model.config.media == "image":
            half = _Alone(lambda clip: self.model.encode(clip, tiles=self.tiles))
        else:
            half = self.model.stream_encoder(window=self.window, tiles=self.tiles, step=self.step)
        for tokens in _through(half, (to_clip(frames, self.model.device) for frames in pieces), run):
            if tokens.is_floating_point() and not bool(torch.isfinite(tokens).all()):
                raise InputError(f"its latents are not finite in {tokens.dtype}; try --dtype float32")
            yield tokens

    def decode(
        self, tokens: Iterable[Tensor], *, frames: int | None = None, run: Run = lambda call: call()
    ) -> Iterator[UInt8[np.ndarray, "T H W 3"]]:
        """Frames of some tokens; where `frames` does not say how many, the padding of the last latent frame too."""
        if self.model.config.media == "image":
            half = _Alone(lambda tokens: self.model.decode(tokens, size=self.size, tiles=self.tiles))
        else:
            half = self.model.stream_decoder(
                frames=frames, size=self.size, window=self.window, tiles=self.tiles, step=self.step
            )
        for clip in _through(half, (values.to(self.model.device) for values in tokens), run):
            if not bool(torch.isfinite(clip).all()):
                raise InputError(f"its frames are not finite in {clip.dtype}; try --dtype float32")
            yield to_frames(clip)

    def split(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """Stored tokens without a batch axis as `encode` gave them: the first latent frame, then some for each pass."""
        started = False
        for part in parts:
            if not started:
                yield part[None].narrow(-3, 0, 1)
                part = part.narrow(-3, 1, part.shape[-3] - 1)
                started = True
            for values in part[None].split(self.step, dim=-3):
                if values.shape[-3]:
                    yield values


def passes_of(model: CausalTokenizer, size: tuple[int, int], *, exact: bool, tile: int | None) -> Passes:
    """Plan passes of a clip of (height, width) `size`; tiles of `tile` pixels a side overlap by a quarter.

    Raises:
        InputError: the frame is too small for the model, or the tile is no size.
    """
    if tile is not None and tile < 1:
        raise InputError(f"a tile of {tile} pixels holds nothing; give the side of a tile, such as --tile 512")
    tiles = None if tile is None else Tiles(size=tile, overlap=tile // 4)
    height, width = model.geometry.padded_size(*size)
    at_once = height * width * model.geometry.temporal  # with tiles too: a pass holds its frames whole
    return Passes(
        model=model,
        size=size,
        step=max(1, min(_LONGEST_STEP, _PIXELS // at_once)),
        window=None if exact or model.config.media == "image" else WINDOW,
        tiles=tiles,
    )


class _Alone:
    """A half without a past: each piece is a clip of its own, as image tokenizers take it."""

    def __init__(self, half: Callable[[Tensor], Tensor]) -> None:
        self._half = half

    @torch.no_grad()
    def push(self, x: Float[Tensor, "..."]) -> Tensor:
        return self._half(x)

    def flush(self) -> None:
        return None


def _through(half: "StreamEncoder | StreamDecoder | _Alone", pieces: Iterable[Tensor], run: Run) -> Iterator[Tensor]:
    for piece in pieces:
        result = run(lambda piece=piece: half.push(piece))
        if result is not None:
            yield result
    rest = run(half.flush)
    if rest is not None:
        yield rest
