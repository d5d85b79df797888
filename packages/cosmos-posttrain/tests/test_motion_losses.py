"""Optical flow and video consistency, against formulas in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_posttrain.losses import OpticalFlow, VideoConsistency
from cosmos_posttrain.networks.raft import RAFT
from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, fsq


def pretended_flow(first: Tensor, second: Tensor) -> Tensor:
    """A smooth function of both frames that tells them apart, in place of a network."""
    return torch.stack([torch.tanh(first[:, 0] - 2 * second[:, 1]), first[:, 2] * second[:, 0].cos()], dim=1)


def flow_formula(clip: Tensor, small: tuple[int, int]) -> list[Tensor]:
    """``2 H W`` for every pair, forward and backward."""
    height, width = clip.shape[-2:]
    found = []
    for n in range(clip.shape[0]):
        frames = [F.interpolate(clip[n : n + 1, :, t], small, mode="bilinear") for t in range(clip.shape[2])]
        pairs = [(t, t + 1) for t in range(len(frames) - 1)] + [(t + 1, t) for t in range(len(frames) - 1)]
        for s, t in pairs:
            flow = F.interpolate(pretended_flow(frames[s], frames[t]), (height, width), mode="bilinear")[0]
            found.append(flow * torch.tensor([width / small[1], height / small[0]], dtype=torch.float64).view(2, 1, 1))
    return found


@pytest.mark.parametrize(
    ("size", "shrink", "small"),
    [((160, 200), 2, (80, 96)), ((131, 149), 2, (64, 72)), ((48, 70), 2, (64, 64)), ((72, 80), 1, (72, 80))],
)
def test_flow_of_both_directions_is_compared_at_full_size(
    size: tuple[int, int], shrink: int, small: tuple[int, int]
) -> None:
    a, b = (torch.rand(2, 3, 3, *size, dtype=torch.float64) for _ in range(2))
    term = OpticalFlow(network=pretended_flow, shrink=shrink)
    pairs = list(zip(flow_formula(a, small), flow_formula(b, small), strict=True))
    assert len(pairs) == 8
    expected = sum(float((f - g).abs().mean()) for f, g in pairs) / len(pairs)
    assert float(term(a, b)) == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(term.flow(a).transpose(1, 2).flatten(0, 1), torch.stack(flow_formula(a, small)))


def test_images_have_no_flow() -> None:
    image = torch.rand(2, 3, 1, 64, 64, requires_grad=True)
    loss = OpticalFlow(network=pretended_flow)(image, image.detach() + 1)
    loss.backward()
    assert loss.item() == 0
    assert image.grad is not None
    assert not image.grad.any()


def test_flow_gradients_are_those_of_finite_differences() -> None:
    a, b = (torch.rand(1, 3, 2, 3, 4, dtype=torch.float64) for _ in range(2))
    term = OpticalFlow(network=pretended_flow)
    assert torch.autograd.gradcheck(lambda x: term(x, b), a.requires_grad_(), eps=1e-7, atol=1e-6)


def test_flow_runs_on_raft_under_autocast_and_reaches_the_reconstruction() -> None:
    network = RAFT().eval().requires_grad_(False)
    term = OpticalFlow(network=lambda first, second: network(first, second, updates=1))
    a, b = (torch.rand(1, 3, 2, 64, 64).bfloat16() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = term(a.requires_grad_(), b)
    loss.backward()
    assert loss.dtype == torch.float32
    assert a.grad is not None
    assert a.grad.abs().max() > 0


class Running:
    """A codec with memory: latents are running sums of groups of frames, so a window's start matters."""

    def __init__(self, group: int) -> None:
        self.group = group

    def encode_raw(self, video: Tensor) -> Tensor:
        sums = video.cumsum(2)[:, :, :: self.group, ::2, ::2]
        return torch.cat([sums, sums.sin()[:, :1]], dim=1)

    def decode_raw(self, z: Tensor) -> Tensor:
        frames = z[:, :3].repeat_interleave(self.group, 2)[:, :, self.group - 1 :]
        return frames.repeat_interleave(2, 3).repeat_interleave(2, 4)


@pytest.mark.parametrize(
    ("window", "step", "group", "frames"), [(9, 4, 4, 17), (9, 8, 8, 25), (9, 8, 4, 20), (5, 1, 4, 7), (9, 2, 1, 13)]
)
def test_neighbouring_windows_are_compared_where_they_overlap(window: int, step: int, group: int, frames: int) -> None:
    video = torch.rand(2, 3, frames, 4, 6, dtype=torch.float64)
    codec = Running(group)
    starts = range(0, frames - window + 1, step)
    latents = [codec.encode_raw(video[:, :, s : s + window]) for s in starts]
    rebuilt = [codec.decode_raw(z) for z in latents]
    pairs = range(len(starts) - 1)
    expected = sum(float((rebuilt[i][:, :, step:] - rebuilt[i + 1][:, :, :-step]).abs().mean()) for i in pairs)
    if step % group == 0:
        shift = step // group
        ratio = rebuilt[0][0].numel() / latents[0][0].numel()
        differences = [(latents[i][:, :, shift:] - latents[i + 1][:, :, :-shift]).abs().mean() for i in pairs]
        expected += ratio * float(sum(differences))
    found = VideoConsistency(model=codec, window=window, step=step)(video, video)
    assert float(found) == pytest.approx(expected / len(pairs), rel=1e-10)
    assert float(found) > 0


@pytest.mark.parametrize("frames", [1, 9, 12])
def test_a_clip_of_one_window_has_nothing_to_compare(frames: int) -> None:
    video = torch.rand(2, 3, frames, 4, 4)
    made = torch.full_like(video, torch.inf, requires_grad=True)
    loss = VideoConsistency(model=Running(4), window=9, step=4)(made, video)
    loss.backward()
    assert loss.item() == 0
    assert made.grad is not None
    assert torch.equal(made.grad, torch.zeros_like(video))


@pytest.mark.parametrize("step", [0, 9])
def test_windows_that_do_not_overlap_are_refused(step: int) -> None:
    with pytest.raises(InputError, match=f"windows of 9 frames every {step} do not overlap"):
        VideoConsistency(model=Running(4), window=9, step=step)


def test_consistency_trains_a_discrete_tokenizer_through_its_quantiser() -> None:
    config = PRESETS["toy-discrete"]
    model = CausalTokenizer(config)
    compression = model.geometry.temporal
    windows = {"model": model, "window": 1 + 2 * compression, "step": compression}
    term = VideoConsistency(**windows, quantise=lambda z: fsq.quantize(z, config.levels))
    video = torch.rand(1, 3, 1 + 3 * compression, 16, 16) * 2 - 1
    loss = term(video, video)
    loss.backward()
    assert loss.item() > 0
    assert loss.item() != VideoConsistency(**windows)(video, video).item()
    assert all(p.grad is not None for p in model.parameters())
