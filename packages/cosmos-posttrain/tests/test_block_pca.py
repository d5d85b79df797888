import numpy as np
import pytest
import torch

from cosmos_posttrain import block_pca
from cosmos_posttrain.block_pca import Block
from cosmos_tokenizer import InputError

BLOCK = Block(time=4, space=8)


def rank_three_video(rng: np.random.Generator) -> torch.Tensor:
    """Blocks drawn from a 3-dimensional space whose first-frame blocks are still, as the causal layout needs."""
    still = np.repeat(rng.standard_normal((3, 3, 1, 8, 8)), 4, axis=2).reshape(3, -1)
    mix = rng.standard_normal((2 * 3 * 2 * 3, 3))
    return block_pca.from_blocks(mix @ still, torch.Size([2, 3, 9, 16, 24]), BLOCK).float()


def test_blocks_undo_exactly_and_repeat_frame_zero() -> None:
    video = torch.rand(2, 3, 9, 16, 24) * 2 - 1
    blocks = block_pca.to_blocks(video, BLOCK)
    assert blocks.shape == (2 * 3 * 2 * 3, 768)
    first = blocks[0].reshape(3, 4, 8, 8)
    np.testing.assert_array_equal(first, np.repeat(video[0, :, :1, :8, :8].double().numpy(), 4, axis=1))
    torch.testing.assert_close(block_pca.from_blocks(blocks, video.shape, BLOCK), video.double())


def test_rank_k_data_is_reconstructed_exactly_and_rank_k_minus_one_is_not() -> None:
    video = rank_three_video(np.random.default_rng(0))
    blocks = block_pca.to_blocks(video, BLOCK)
    exact, short = (block_pca.fit(blocks, BLOCK, components=k).reconstruct(video) for k in (3, 2))
    torch.testing.assert_close(exact, video, rtol=0, atol=1e-5)
    assert (short - video).square().mean() > 1e-3


@pytest.mark.parametrize("block", [Block(time=8, space=8), Block(time=8, space=16), Block(time=1, space=4)])
def test_blocks_of_other_sizes_undo_exactly(block: Block) -> None:
    video = torch.rand(2, 3, 1 + 2 * block.time, 2 * block.space, 3 * block.space) * 2 - 1
    blocks = block_pca.to_blocks(video, block)
    assert blocks.shape == (2 * 3 * 2 * 3, block.size)
    torch.testing.assert_close(block_pca.from_blocks(blocks, video.shape, block), video.double())


def test_basis_is_orthonormal_with_the_largest_variance_first() -> None:
    blocks = np.random.default_rng(1).standard_normal((500, 768)) * np.linspace(0.1, 3, 768)
    pca = block_pca.fit(blocks, BLOCK, components=5)
    np.testing.assert_allclose(pca.basis.T @ pca.basis, np.eye(5), atol=1e-10)
    variances = pca.coefficients(blocks).var(axis=0)
    assert (np.diff(variances) <= 0).all()


def test_a_few_components_of_large_blocks_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    blocks = rng.standard_normal((900, 768)) * 1 / np.arange(1, 769)
    everything = block_pca.fit(blocks, BLOCK, components=7).basis
    monkeypatch.setattr(block_pca, "ALL_AT_ONCE", 500)
    few = block_pca.fit(blocks, BLOCK, components=7).basis
    np.testing.assert_allclose(np.abs(few.T @ everything), np.eye(7), atol=1e-6)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_lloyd_max_on_uniform_values_is_the_uniform_quantiser(count: int) -> None:
    values = np.random.default_rng(2).permutation(np.linspace(-1, 1, 20_001))
    expected = (np.arange(count) + 0.5) / count * 2 - 1
    np.testing.assert_allclose(block_pca.lloyd_max(values, count), expected, atol=2e-3)


def test_lloyd_max_of_a_normal_distribution_matches_the_published_four_levels() -> None:
    values = np.random.default_rng(3).standard_normal(200_000)
    np.testing.assert_allclose(block_pca.lloyd_max(values, 4), [-1.510, -0.4528, 0.4528, 1.510], atol=0.02)


def test_quantised_coefficients_take_only_their_levels() -> None:
    rng = np.random.default_rng(4)
    blocks = rng.standard_normal((300, 768)) @ rng.standard_normal((768, 768))
    pca = block_pca.fit_levels(block_pca.fit(blocks, BLOCK, components=3), blocks, (8, 5, 2))
    rounded = pca.quantise(pca.coefficients(blocks))
    assert [len(np.unique(rounded[:, k])) for k in range(3)] == [8, 5, 2]


def test_a_saved_baseline_reconstructs_bit_for_bit(tmp_path) -> None:
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    blocks = block_pca.to_blocks(torch.rand(2, 3, 9, 64, 64) * 2 - 1, BLOCK)
    for pca in (
        block_pca.fit(blocks, BLOCK, components=4),
        block_pca.fit_levels(block_pca.fit(blocks, BLOCK, components=2), blocks, (5, 3)),
    ):
        pca.save(tmp_path / "pca.npz")
        assert torch.equal(block_pca.load(tmp_path / "pca.npz").reconstruct(video), pca.reconstruct(video))


def test_sampled_blocks_come_from_their_clips() -> None:
    rng = np.random.default_rng(5)
    clips = np.stack([np.full((5, 16, 16, 3), value, np.uint8) for value in range(40)])
    blocks = block_pca.sample_blocks(clips, 3, rng, BLOCK)
    np.testing.assert_allclose(blocks, np.repeat(np.arange(40) / 127.5 - 1, 3)[:, None] * np.ones(768), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 4, 16, 16), (1, 3, 5, 12, 16), (1, 1, 5, 16, 16)])
def test_sizes_that_do_not_divide_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="1 \\+ 4n frames"):
        block_pca.to_blocks(torch.zeros(shape), BLOCK)
