"""What parallelism is made of, in one process: attention part by part, plans, and what does not fit."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from cosmos_diffusion import PRESETS, DiT
from cosmos_diffusion.nn import attention
from cosmos_diffusion.parallel import Plan, Team, both, context_parallel, partial_attention, plan_for
from cosmos_diffusion.parallel.context import check_method
from cosmos_diffusion.parallel.exchange import shares
from cosmos_diffusion.parallel.partial_attention import Found, attend_to_part, gradients_of_part, merged
from cosmos_diffusion.parallel.ring import ring_attention
from cosmos_tokenizer import InputError

TOY = PRESETS["toy"]
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")]
)


def heads(length: int, *, scale: float = 1.0, width: int = 24) -> Tensor:
    return scale * torch.randn(2, 3, length, width)


def whole(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def among(q: Tensor, k: Tensor, v: Tensor, sizes: list[int], order: list[int]) -> Found:
    parts = [attend_to_part(q, *(x.split(sizes, 2)[index] for x in (k, v))) for index in order]
    found = parts[0]
    for part in parts[1:]:
        found = merged(found, part)
    return found


@pytest.fixture(params=["kernel", "formula"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fused kernels, or what stands in for them where there is none."""
    if request.param == "formula":
        monkeypatch.setattr(partial_attention, "_kernel", lambda q: None)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_parts_of_the_keys_make_the_whole(order: list[int], scale: float) -> None:
    q, k, v = heads(5, scale=scale), heads(13, scale=scale), heads(13)
    found = among(q, k, v, [1, 7, 2, 3], order)
    torch.testing.assert_close(found.o_BNLH, whole(q, k, v), atol=1e-5, rtol=0)
    scores = (q @ k.mT / 24**0.5).logsumexp(-1)
    torch.testing.assert_close(found.lse_BNL, scores, atol=1e-5, rtol=1e-6)


@pytest.mark.usefixtures("way")
def test_a_part_far_below_another_weighs_nothing() -> None:
    q, k, v = torch.ones(1, 1, 2, 16), torch.ones(1, 1, 6, 16), torch.randn(1, 1, 6, 16)
    k = torch.cat([1000 * k[:, :, :3], -1000 * k[:, :, 3:]], dim=2)
    for order in ([0, 1], [1, 0]):
        found = among(q, k, v, [3, 3], order)
        torch.testing.assert_close(found.o_BNLH, v[:, :, :3].mean(2, keepdim=True).expand(-1, -1, 2, -1))


@pytest.mark.usefixtures("way")
def test_gradients_of_parts_make_those_of_the_whole() -> None:
    q, k, v, g = heads(5), heads(11), heads(11), heads(5)
    sizes = [4, 1, 6]
    found = among(q, k, v, sizes, [1, 0, 2])
    parts = [gradients_of_part(g, q, *some, found) for some in zip(k.split(sizes, 2), v.split(sizes, 2), strict=True)]
    wanted = [x.requires_grad_() for x in (q, k, v)]
    dq, dk, dv = torch.autograd.grad(whole(*wanted), wanted, g)
    torch.testing.assert_close(sum(part[0] for part in parts), dq, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([part[1] for part in parts], 2), dk, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([part[2] for part in parts], 2), dv, atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("width", [24, 28])
def test_parts_in_half_precision_lose_no_more_than_the_whole(device: str, width: int) -> None:
    q, k, v, g = (heads(length, width=width) for length in (5, 13, 13, 5))
    low = [x.to(device, torch.bfloat16) for x in (q, k, v)]
    found = among(*low, [6, 7], [0, 1])
    assert found.lse_BNL.dtype == found.o_BNLH.dtype == torch.float32
    assert (found.o_BNLH.cpu() - whole(q, k, v)).abs().max() < 0.03
    parts = zip(*(x.split([6, 7], 2) for x in low[1:]), strict=True)
    rows = [gradients_of_part(g.to(low[0]), low[0], *some, found) for some in parts]
    wanted = [x.requires_grad_() for x in (q, k, v)]
    dq, dk, _ = torch.autograd.grad(whole(*wanted), wanted, g)
    assert (sum(row[0].float().cpu() for row in rows) - dq).abs().max() < 0.05
    assert (torch.cat([row[1].float().cpu() for row in rows], 2) - dk).abs().max() < 0.05


def test_shares_are_as_equal_as_may_be() -> None:
    assert shares(16, 3) == (6, 5, 5)
    assert shares(4, 4) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("processes", "guided", "wanted"),
    [
        (1, True, Plan()),
        (2, True, Plan(guidance=2, method="ulysses")),
        (2, False, Plan(context=2, method="ulysses")),
        (3, True, Plan(context=3, method="ring")),
        (8, True, Plan(guidance=2, context=4, method="ulysses")),
        (10, True, Plan(guidance=2, context=5, method="ring")),
    ],
)
def test_a_plan_talks_as_little_as_it_can(processes: int, guided: bool, wanted: Plan) -> None:
    config = PRESETS["7b-video2world"]
    plan = plan_for(config, processes, frames=16, guided=guided)
    one = replace(plan, method=wanted.method) if plan.context == 1 else plan
    assert one == wanted
    assert plan.processes == processes


def test_as_many_processes_as_frames_or_heads_fit() -> None:
    config = replace(TOY, heads=4)
    assert plan_for(config, 4, frames=4, guided=False).context == 4
    assert plan_for(config, 8, frames=5, guided=True, method="ulysses") == Plan(guidance=2, context=4, method="ulysses")


def test_a_plan_that_cannot_be_names_the_way_out() -> None:
    config = replace(TOY, heads=4)
    with pytest.raises(InputError, match="10 processes are too many for 4 latent frames: start at most 8, or make a"):
        plan_for(config, 10, frames=4, guided=True)
    with pytest.raises(InputError, match="6 processes are too many for 4 heads: start at most 4, or use method 'ring'"):
        plan_for(config, 6, frames=9, guided=False, method="ulysses")
    with pytest.raises(InputError, match="guidance is 3: use 1 process for it, or 2"):
        Plan(guidance=3)
    with pytest.raises(InputError, match="context is 0"):
        Plan(context=0)
    with pytest.raises(InputError, match="method of context parallelism is 'star': use ring or ulysses"):
        check_method("star")
    with pytest.raises(InputError, match="weights need two processes or more"):
        Plan(sharded=True)
    with pytest.raises(InputError, match="the plan is for 2 x 3 processes and 1 run: start torchrun .* 6"):
        Team(Plan(guidance=2, context=3))


def test_one_process_needs_no_team() -> None:
    team, net = Team(Plan()), DiT(TOY)
    with team.spread(net):
        assert not net._forward_pre_hooks
    assert team.both(lambda x: 2 * x, torch.ones(1), torch.zeros(1)) == (torch.full((1,), 2.0), torch.zeros(1))
    assert both(lambda x: 2 * x, torch.ones(1), torch.zeros(1), None) == (torch.full((1,), 2.0), torch.zeros(1))


@pytest.fixture
def six() -> Iterator[dist.ProcessGroup]:
    """A group of six processes of which five say nothing."""
    dist.init_process_group("fake", store=dist.HashStore(), rank=0, world_size=6)
    try:
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("frames", "method", "says"),
    [
        (5, "ring", "latents have 5 frames in tokens: 6 processes .* longer clip, or at most 5 processes"),
        (17, "ring", "latents have 17 frames"),
        (6, "ulysses", "the network has 2 heads: 'ulysses' cannot share them out to 6 processes, use 'ring'"),
    ],
)
def test_what_cannot_be_shared_out_is_named(six: dist.ProcessGroup, frames: int, method: str, says: str) -> None:
    net = DiT(TOY)
    with pytest.raises(InputError, match=says), context_parallel(net, six, method):
        net(torch.zeros(1, 16, frames, 4, 4), torch.zeros(1), torch.zeros(1, 3, TOY.text_width), fps=24)


def test_a_ring_needs_a_backend_that_weighs_parts(six: dist.ProcessGroup) -> None:
    with pytest.raises(InputError, match="not 'te': use method 'ulysses' with that one"):
        ring_attention(*torch.zeros(3, 1, 2, 1, 16), lengths=(2,) * 6, group=six, backend="te")


def test_the_network_forgets_its_group(six: dist.ProcessGroup) -> None:
    net = DiT(TOY).eval()
    given = torch.randn(1, 16, 5, 4, 4), torch.zeros(1), torch.zeros(1, 3, TOY.text_width)
    before = net(*given, fps=24)
    for end in (context_parallel(net, six), nullcontext()):
        with end:
            pass
    assert torch.equal(net(*given, fps=24), before)
