"""Conformance check that every text encoder, and every fake of one, runs in its tests."""

from collections.abc import Sequence

import torch

from cosmos_diffusion.text_encoders.padding import trimmed
from cosmos_diffusion.text_encoders.protocol import TextEncoder

PROMPTS = ("a red ball rolls down a ramp", "two boxes", "a seesaw tips over, slowly, and comes to rest on its left end")


@torch.no_grad()
def check_text_encoder(
    encoder: TextEncoder, *, prompts: Sequence[str] = PROMPTS, tolerance: int | float = 1e-5
) -> None:
    """Assert shapes, zeros behind the end, that prompts differ, and that none depends on the others of its batch.

    Args:
        encoder: the encoder under test, in eval mode.
        prompts: two or more that differ, one of them shorter than the encoder's length.
        tolerance: allowed difference between what should agree, as a share of the largest value.

    Raises:
        AssertionError: naming the property that does not hold.
    """
    text_BSK = encoder.encode(prompts)
    shape = (len(prompts), encoder.length, encoder.width)
    assert tuple(text_BSK.shape) == shape, f"embeddings are {tuple(text_BSK.shape)}, and {shape} was to be expected"
    assert text_BSK.is_floating_point(), f"embeddings are {text_BSK.dtype}, no floats"
    assert bool(text_BSK.isfinite().all()), "embeddings are not finite"

    room = tolerance * float(text_BSK.abs().max())

    def same(left: torch.Tensor, right: torch.Tensor) -> bool:
        return left.shape == right.shape and torch.allclose(left.float(), right.float(), atol=room, rtol=0)

    for prompt, text_SK in zip(prompts, text_BSK, strict=True):
        values = trimmed(text_SK)
        assert len(values), f"the embedding of {prompt!r} is all zeros"
        assert bool(values.abs().amax(dim=1).min() > 0), f"zeros stand inside the embedding of {prompt!r}"
        assert same(encoder.encode([prompt])[0], text_SK), f"other prompts of the batch change {prompt!r}"
    shortest = min(len(trimmed(text_SK)) for text_SK in text_BSK)
    assert shortest < encoder.length, "no embedding ends before the length of all: padding is not zeroed"
    for first, second in zip(text_BSK, text_BSK.roll(1, 0), strict=True):
        assert not torch.equal(first, second), "different prompts have one embedding"
