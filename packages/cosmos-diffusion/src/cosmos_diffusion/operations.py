"""Floating-point operations of a forward, and of a step of training, before either is run.

Clips are those of a codec that keeps the first frame and every eighth after it, and every eighth pixel, unless told
otherwise.
"""

from cosmos_diffusion.config import DiTConfig
from cosmos_tokenizer import InputError


def latent_shape(
    config: DiTConfig, frames: int, height: int, width: int, compression: tuple[int, int] = (8, 8)
) -> tuple[int, int, int]:
    """Latent frames, rows and columns of a clip of pixels (of one view).

    Raises:
        InputError: the codec or the network does not take such a clip.
    """
    time, space = compression
    if frames < 1 or (frames - 1) % time:
        near = max(0, frames - 1) // time * time + 1
        raise InputError(f"frames is {frames}: give 1 + a multiple of {time}, such as {near} or {near + time}")
    shape = ((frames - 1) // time + 1, height // space, width // space)
    for name, size, pixels, patch, most in (
        ("height", shape[1], height, config.patch[1], config.grid[1]),
        ("width", shape[2], width, config.patch[2], config.grid[2]),
    ):
        unit = space * patch
        if pixels % unit or not 0 < size <= most:
            raise InputError(f"{name} is {pixels}: give a multiple of {unit}, at most {most * space}")
    if shape[0] % config.patch[0] or shape[0] > config.grid[0]:
        raise InputError(f"frames is {frames}: the network takes at most {config.grid[0]} latent frames")
    return shape


def tokens_of(config: DiTConfig, latents: tuple[int, int, int]) -> int:
    """Tokens of a clip of so many latent frames, rows and columns, over all views."""
    cells = [size // patch for size, patch in zip(latents, config.patch, strict=True)]
    return (config.views or 1) * cells[0] * cells[1] * cells[2]


def flops(
    config: DiTConfig,
    frames: int,
    height: int,
    width: int,
    text_length: int | None = None,
    *,
    batch: int = 1,
    prepared: bool = False,
    compression: tuple[int, int] = (8, 8),
) -> int:
    """Floating-point operations of one forward: two for each multiplication of its matrix products and attentions.

    Args:
        config: of the network.
        frames, height, width: of the clip, in pixels; of one view, where the network has several.
        text_length: vectors of text, of one view; by default those that the network was made for.
        batch: clips.
        prepared: leave out what ``prepare_text`` and ``prepare_level`` have done before.
        compression: of the codec, in time and in space.

    Raises:
        InputError: the codec or the network does not take such a clip.
    """
    tokens, views = tokens_of(config, latent_shape(config, frames, height, width, compression)), config.views or 1
    text = text_length or config.text_length
    d, patch = config.width, config.patch[0] * config.patch[1] * config.patch[2]
    ends = tokens * d * patch * (config.input_channels + config.latent_channels)
    products = tokens * d * (6 * d + 2 * config.mlp_width)  # self-attention's four, cross-attention's two, perceptron
    attention = _attention(config, tokens, text)
    level = 3 * d * config.adaln_rank + 3 * 3 * d * config.adaln_rank
    context = 2 * views * text * config.text_width * d
    if prepared:
        return 2 * batch * (ends + config.blocks * (products + attention))
    shared = 4 * d * d + 3 * d * config.adaln_rank + views * text * config.text_projection * config.text_width
    return 2 * batch * (ends + shared + config.blocks * (products + attention + level + context))


def training_flops(
    config: DiTConfig,
    frames: int,
    height: int,
    width: int,
    *,
    batch: int = 1,
    frozen: bool = False,
    compression: tuple[int, int] = (8, 8),
) -> int:
    """Floating-point operations of a forward and a backward pass, without what checkpointing does again.

    A product has two gradients, each of as many operations as itself: three times the forward in all. With ``frozen``
    weights (LoRA) the products have that of their input alone, and what the adapters add is left out, as it is small.

    Raises:
        InputError: the codec or the network does not take such a clip.
    """
    forward = flops(config, frames, height, width, batch=batch, compression=compression)
    if not frozen:
        return 3 * forward
    tokens = tokens_of(config, latent_shape(config, frames, height, width, compression))
    return 2 * forward + 2 * batch * config.blocks * _attention(config, tokens, config.text_length)


def _attention(config: DiTConfig, tokens: int, text: int) -> int:
    """Multiplications of a block's two attentions, each of two products; a view's text is for its own tokens."""
    return 2 * tokens * (tokens + text) * config.width
