"""Shape arithmetic of clips and latents."""

import pytest

from cosmos_tokenizer import Geometry, InputError


@pytest.mark.parametrize("temporal", [1, 4, 8])
def test_padded_frames_are_the_least_legal_length(temporal: int) -> None:
    geometry = Geometry(temporal=temporal, spatial=8)
    for frames in range(1, 40):
        padded = geometry.padded_frames(frames)
        assert frames <= padded < frames + temporal
        assert (padded - 1) % temporal == 0
        assert geometry.frames(geometry.latent_frames(frames)) == padded


def test_sizes_are_whole_cells() -> None:
    geometry = Geometry(temporal=8, spatial=16)
    assert geometry.latent_size(720, 1280) == (45, 80)
    assert geometry.padded_size(17, 33) == (32, 48)
    assert geometry.padded_size(16, 16) == (16, 16)


def test_too_small_frames_and_empty_clips_are_named() -> None:
    geometry = Geometry(temporal=4, spatial=8)
    with pytest.raises(InputError, match="15x64 is too small"):
        geometry.latent_size(15, 64)
    with pytest.raises(InputError, match="0 frames"):
        geometry.latent_frames(0)
    with pytest.raises(InputError, match="0 latent frames"):
        geometry.frames(0)
