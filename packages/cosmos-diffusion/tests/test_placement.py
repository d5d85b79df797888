"""Where a pipeline's parts are changes no clip: one at a time, page by page, in eight bits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cosmos_diffusion.network import DiT
from cosmos_diffusion.paging import Pager
from cosmos_diffusion.parallel import Plan
from cosmos_diffusion.pipelines import Generation, Placement, Video2World, placement
from cosmos_tokenizer import InputError

ELSEWHERE = torch.device("cpu", 0)  # not equal to "cpu", as a GPU is not


class HostLane:
    """Pages to a second copy in host memory."""

    device = ELSEWHERE

    def host(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    place = host

    def start(self, place: Tensor, page: Tensor) -> Callable[[], None]:
        place.copy_(page)
        return lambda: None


@pytest.fixture
def make(toy_world: Callable, toy_codec: Callable) -> Callable[..., Generation]:
    """Return what makes clips of two seeds under a placement."""
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1

    def generate(**options: object) -> Generation:
        with Video2World(toy_world(), codec=toy_codec(), placement=Placement(**options)) as pipeline:
            return pipeline("it falls", video=video.to(pipeline.places.device), seeds=[1, 2])

    return generate


def assert_same(one: Generation, other: Generation) -> None:
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.video, other.video)


def test_parts_take_turns_in_their_order(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[str] = []
    to = nn.Module.to

    def noted(part: nn.Module, device: torch.device) -> nn.Module:
        moves.append(f"{type(part).__name__} {'comes' if device == ELSEWHERE else 'leaves'}")
        return to(part, device)

    expected = make()
    monkeypatch.setattr(nn.Module, "to", lambda part, *where, **how: noted(part, *where) if where else to(part, **how))
    assert_same(make(device=ELSEWHERE, offload="components"), expected)
    turns = [move for move in moves if not move.startswith("Domains")]
    assert turns[:4] == ["CausalTokenizer comes", "CausalTokenizer leaves", "ByteEncoder comes", "ByteEncoder leaves"]
    assert turns[4:] == ["CausalTokenizer comes", "CausalTokenizer leaves", "DiT comes", "DiT leaves"] * 2 + [
        "CausalTokenizer comes",
        "CausalTokenizer leaves",
    ]


def test_blocks_that_are_paged_make_the_same_clip(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    pagers: list[Pager] = []

    def page(net: DiT, device: torch.device) -> Pager:
        assert device == ELSEWHERE
        pagers.append(Pager(net, list(net.blocks), HostLane(), ahead=0))
        return pagers[0]

    monkeypatch.setattr(placement, "page", page)
    assert_same(make(device=ELSEWHERE, offload="blocks"), make())
    assert pagers[0].resident == ()


def test_weights_in_eight_bits_make_a_clip_that_is_near(make: Callable) -> None:
    exact = make()
    for form in ("int8", "float8"):
        near = make(weights=form)
        assert near.metadata["weights"] == form
        difference = (near.latents - exact.latents).abs().max()
        assert 0 < difference < 0.1 * exact.latents.abs().max()


def test_what_does_not_go_together_is_said(make: Callable, toy_world: Callable) -> None:
    class Team:
        plan = Plan(context=2, sharded=True)

    net = toy_world().net
    for options in ({"offload": "blocks"}, {"weights": "int8"}):
        unchecked = getattr(placement.Places.__init__, "__wrapped__", placement.Places.__init__)
        with pytest.raises(InputError, match="weights are to be shared out to processes, and paged or in eight bits"):
            unchecked(placement.Places.__new__(placement.Places), Placement(**options), net, Team())
    unchecked = getattr(Placement.__init__, "__wrapped__", Placement.__init__)
    with pytest.raises(InputError, match="offload is 'all': use none, components, blocks"):
        unchecked(Placement.__new__(Placement), offload="all")
    with pytest.raises(InputError, match="paging is from host memory to a GPU"):
        make(offload="blocks")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_every_placement_on_a_gpu_makes_the_same_clip(make: Callable) -> None:
    expected = make(device="cuda")
    for offload in ("components", "blocks"):
        assert_same(make(device="cuda", offload=offload), expected)
