"""Conformance check that every codec, and every fake of one, runs in its tests."""

import torch

from cosmos_tokenizer.protocols import ContinuousCodec, DiscreteCodec


@torch.no_grad()
def check_codec(
    codec: ContinuousCodec | DiscreteCodec,
    *,
    frames: int = 10,
    size: tuple[int, int] = (40, 24),
    tolerance: float = 1e-5,
) -> None:
    """Assert shapes, causality, independence of the batch and undone padding on a random clip in float32 on CPU.

    Args:
        codec: the codec under test, on CPU in float32.
        frames, size: clip to try; the defaults need padding in every axis of an 8x16x16 codec.
        tolerance: allowed difference of floats that should agree.

    Raises:
        AssertionError: naming the property that does not hold.
    """
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, frames, *size, generator=generator) * 2 - 1
    geometry = codec.geometry
    tokens = codec.encode(video)
    discrete = not tokens.is_floating_point()

    grid = (geometry.latent_frames(frames), *geometry.latent_size(*size))
    assert tuple(tokens.shape[-3:]) == grid, f"tokens are {tuple(tokens.shape)}, geometry says {grid}"
    assert tokens.dim() == (4 if discrete else 5), f"tokens have {tokens.dim()} axes"
    assert not discrete or tokens.dtype == torch.int32, f"indices are {tokens.dtype}, not int32"

    def same(left: torch.Tensor, right: torch.Tensor) -> bool:
        return torch.equal(left, right) if discrete else torch.allclose(left, right, atol=tolerance, rtol=0)

    past = geometry.frames(geometry.latent_frames(frames) - 1) if grid[0] > 1 else frames
    assert same(codec.encode(video[:, :, :past]), tokens.narrow(-3, 0, geometry.latent_frames(past))), (
        "future frames change past tokens"
    )
    assert same(codec.encode(video[1:]), tokens[1:]), "other clips of the batch change tokens"

    whole = codec.decode(tokens)  # type: ignore[arg-type]
    padded = (2, 3, geometry.padded_frames(frames), *geometry.padded_size(*size))
    assert tuple(whole.shape) == padded, f"decoded clip is {tuple(whole.shape)}, geometry says {padded}"
    cut = codec.decode(tokens, frames=frames, size=size)  # type: ignore[arg-type]
    assert tuple(cut.shape) == tuple(video.shape), f"decode(frames=, size=) gave {tuple(cut.shape)}"
    assert torch.equal(cut, whole[:, :, :frames, : size[0], : size[1]]), "decode(frames=, size=) is not a crop"
    early = codec.decode(tokens.narrow(-3, 0, 1))  # type: ignore[arg-type]
    assert torch.allclose(early, whole[:, :, :1], atol=tolerance, rtol=0), "future tokens change past frames"
