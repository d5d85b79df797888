"""Frames and pixels of a clip against frames and cells of its latents: pure shape arithmetic, with no tensor in it."""

from dataclasses import dataclass

from cosmos_tokenizer.errors import InputError

SMALLEST_SIDE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Temporal and spatial compression of a causal tokenizer.

    The first frame is a latent frame of its own; each following latent frame covers ``temporal`` frames, so a clip of
    ``1 + temporal * n`` frames has ``1 + n`` latent frames and needs no padding. A cell covers ``spatial`` pixels a
    side.
    """

    temporal: int
    spatial: int

    def latent_frames(self, frames: int) -> int:
        """Latent frames that hold ``frames`` frames, the last one padded where it must be."""
        if frames < 1:
            raise InputError(f"a clip of {frames} frames has nothing to encode: give at least 1")
        return 1 + -(-(frames - 1) // self.temporal)

    def frames(self, latent_frames: int) -> int:
        """Frames that ``latent_frames`` latent frames decode to."""
        if latent_frames < 1:
            raise InputError(f"{latent_frames} latent frames have nothing to decode: give at least 1")
        return 1 + (latent_frames - 1) * self.temporal

    def padded_frames(self, frames: int) -> int:
        """The next length of the form ``1 + temporal * n``."""
        return self.frames(self.latent_frames(frames))

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Cells ``(h, w)`` that hold a frame of ``height`` by ``width`` pixels."""
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(f"a frame of {height}x{width} is too small: both sides must be at least {SMALLEST_SIDE}")
        return -(-height // self.spatial), -(-width // self.spatial)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The next ``(height, width)`` of whole cells."""
        rows, columns = self.latent_size(height, width)
        return rows * self.spatial, columns * self.spatial
