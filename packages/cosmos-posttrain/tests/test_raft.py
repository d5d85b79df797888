"""RAFT: torchvision's layout and numbers, and its parts against formulas."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cosmos_posttrain.networks import flow_network
from cosmos_posttrain.networks.raft import RAFT, ConvGRU, correlation_pyramid, look_up, upsample
from cosmos_tokenizer import InputError

KEYS = {
    "feature_encoder.convnormrelu.0.weight": (64, 3, 7, 7),
    "feature_encoder.layer3.0.downsample.0.bias": (128,),
    "context_encoder.layer2.0.downsample.1.running_var": (96,),
    "context_encoder.layer1.1.convnormrelu2.1.weight": (64,),
    "context_encoder.conv.weight": (256, 128, 1, 1),
    "update_block.motion_encoder.convcorr1.0.weight": (256, 324, 1, 1),
    "update_block.motion_encoder.conv.0.weight": (126, 256, 3, 3),
    "update_block.recurrent_block.convgru1.convz.weight": (128, 384, 1, 5),
    "update_block.recurrent_block.convgru2.convq.weight": (128, 384, 5, 1),
    "update_block.flow_head.conv2.weight": (2, 256, 3, 3),
    "mask_predictor.convrelu.0.bias": (256,),
    "mask_predictor.conv.weight": (576, 256, 1, 1),
}


def test_layout_and_count_are_those_of_the_published_weights() -> None:
    with torch.device("meta"):
        network = RAFT()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == 5_257_536
    assert len(state) == 169
    assert {key: tuple(state[key].shape) for key in KEYS} == KEYS


def test_flow_is_that_of_another_implementation(
    patterned: Callable[[nn.Module], nn.Module], waves: Callable[[int, int], Tensor]
) -> None:
    first = waves(128, 136)
    with torch.no_grad():
        flow = patterned(RAFT())(first, first.roll((3, -2), (2, 3)), updates=3)
    # torchvision 0.29.2, raft_large, on the same weights and frames, after as many updates.
    expected = torch.tensor([-30.601498, -32.736893, 15.646133, 29.196405, 9.585135])
    torch.testing.assert_close(flow.flatten()[[0, 777, 9999, 20000, 34815]], expected, rtol=1e-3, atol=1e-2)
    assert float(flow.mean()) == pytest.approx(-1.957838, abs=1e-3)
    assert float(flow.abs().mean()) == pytest.approx(30.941826, rel=1e-4)


def test_each_pair_has_its_own_flow_and_the_smallest_frames_work() -> None:
    network = RAFT().eval()
    frames = torch.rand(3, 3, 64, 72) * 2 - 1
    with torch.no_grad():
        together = network(frames[:2], frames[1:], updates=2)
        alone = torch.cat([network(frames[i : i + 1], frames[i + 1 : i + 2], updates=2) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert together.shape == (2, 2, 64, 72)
    assert together.isfinite().all()


@pytest.mark.parametrize("size", [(56, 64), (64, 56), (68, 64)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    frames = torch.zeros(1, 3, *size)
    with pytest.raises(InputError, match=f"not {size[0]}x{size[1]}"):
        RAFT()(frames, frames)


def test_correlations_are_scaled_products_averaged_over_squares() -> None:
    first, second = (torch.randn(2, 5, 8, 11, dtype=torch.float64) for _ in range(2))
    pyramid = correlation_pyramid(first, second)
    assert [tuple(level.shape) for level in pyramid] == [
        (176, 1, 8, 11),
        (176, 1, 4, 5),
        (176, 1, 2, 2),
        (176, 1, 1, 1),
    ]
    n, y, x = 1, 6, 9
    row = n * 88 + y * 11 + x
    product = (first[n, :, y, x, None, None] * second[n]).sum(0) / math.sqrt(5)
    torch.testing.assert_close(pyramid[0][row, 0], product)
    torch.testing.assert_close(pyramid[2][row, 0, 1, 0], product[4:8, 0:4].mean())
    torch.testing.assert_close(pyramid[3][row, 0, 0, 0], product[:8, :8].mean())


def test_look_up_reads_between_entries_and_zero_beyond_the_border() -> None:
    pyramid = [torch.randn(6, 1, size, size + 1, dtype=torch.float64) for size in (8, 4, 2, 1)]
    centre = torch.rand(1, 2, 2, 3, dtype=torch.float64) * 9 - 1
    found = look_up(pyramid, centre)
    assert found.shape == (1, 324, 2, 3)

    def entry(volume: Tensor, x: float, y: float) -> float:
        total = 0.0
        for column in (math.floor(x), math.floor(x) + 1):
            for row in (math.floor(y), math.floor(y) + 1):
                if 0 <= row < volume.shape[0] and 0 <= column < volume.shape[1]:
                    total += float(volume[row, column]) * (1 - abs(x - column)) * (1 - abs(y - row))
        return total

    for position in range(6):
        row, column = divmod(position, 3)
        for level, volume in enumerate(pyramid):
            x, y = (float(value) / 2**level for value in centre[0, :, row, column])
            for i in range(9):  # x is the slower of the two
                for j in range(9):
                    expected = entry(volume[position, 0], x + i - 4, y + j - 4)
                    assert float(found[0, level * 81 + i * 9 + j, row, column]) == pytest.approx(expected, abs=1e-9)


def test_upsampling_is_a_convex_combination_of_nine_neighbours() -> None:
    flow, logits = torch.randn(2, 2, 3, 4, dtype=torch.float64), torch.randn(2, 576, 3, 4, dtype=torch.float64)
    fine = upsample(flow, logits)
    assert fine.shape == (2, 2, 24, 32)
    padded = nn.functional.pad(flow, (1, 1, 1, 1))
    for n, c, y, x in [(0, 0, 0, 0), (1, 1, 13, 22), (0, 1, 23, 31), (1, 0, 8, 7)]:
        (row, p), (column, q) = divmod(y, 8), divmod(x, 8)
        weights = torch.stack([logits[n, k * 64 + p * 8 + q, row, column] for k in range(9)]).softmax(0)
        around = padded[n, c, row : row + 3, column : column + 3].flatten()
        torch.testing.assert_close(fine[n, c, y, x], 8 * (weights * around).sum())


def test_the_gated_unit_follows_its_equations() -> None:
    unit = ConvGRU((1, 5)).double()
    hidden, x = torch.randn(1, 128, 1, 1, dtype=torch.float64), torch.randn(1, 256, 1, 1, dtype=torch.float64)
    h, v = hidden.flatten(), x.flatten()

    def dense(conv: nn.Conv2d, value: Tensor) -> Tensor:
        assert conv.bias is not None
        return conv.weight[:, :, 0, 2] @ value + conv.bias  # alone in its row, a pixel meets the middle of the kernel

    z, r = (torch.sigmoid(dense(conv, torch.cat([h, v]))) for conv in (unit.convz, unit.convr))
    q = torch.tanh(dense(unit.convq, torch.cat([r * h, v])))
    torch.testing.assert_close(unit(hidden, x).flatten(), (1 - z) * h + z * q)


def test_gradients_reach_the_frames_and_weights_load_frozen(tmp_path: Path) -> None:
    torch.save(RAFT().state_dict(), tmp_path / "raft.pth")
    network = flow_network(tmp_path / "raft.pth")
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    first = (torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_()
    learns_from: list[bool] = []
    network.update_block.motion_encoder.register_forward_pre_hook(
        lambda _, inputs: learns_from.append(inputs[0].requires_grad)
    )
    network(first, first.detach().roll(1, 3), updates=2).square().mean().backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.abs().max() > 0
    assert learns_from == [False, False]  # no update learns through the flow of the one before
    with pytest.raises(InputError, match="raft_large"):
        flow_network(tmp_path)
