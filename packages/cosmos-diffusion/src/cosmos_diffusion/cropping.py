"""What decoding gives back of a clip that encoding has padded to whole latent frames and cells."""

from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import Geometry, InputError


def check_crop(
    geometry: Geometry, grid: tuple[int, int, int], *, frames: int | None, size: tuple[int, int] | None
) -> None:
    """Raise where a clip of so many frames and of that (height, width) has another grid of latents or tokens (t, h, w).

    Raises:
        InputError: naming the one that does not fit.
    """
    if frames is not None and geometry.latent_frames(frames) != grid[0]:
        raise InputError(f"{frames} frames do not belong to {grid[0]} latent frames")
    if size is not None and geometry.latent_size(*size) != grid[1:]:
        raise InputError(f"a size of {size[0]}x{size[1]} does not belong to latents of {grid[1]}x{grid[2]}")


def cropped(
    video: Float[Tensor, "B 3 T H W"], *, frames: int | None, size: tuple[int, int] | None
) -> Float[Tensor, "B 3 _T _H _W"]:
    """Its first frames and its upper left part, where given."""
    height, width = size or video.shape[-2:]
    return video[:, :, :frames, :height, :width]
