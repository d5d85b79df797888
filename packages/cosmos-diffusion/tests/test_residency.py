"""One at a time: who is on the device when, that nothing is copied back, and that a failure leaves all at home."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from cosmos_diffusion import PRESETS
from cosmos_diffusion.paging import Pager
from cosmos_diffusion.residency import Residency
from cosmos_tokenizer import InputError

needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


class Component:
    """Writes down where it goes."""

    def __init__(self, name: str, log: list[str], home: torch.device, *, too_large: bool = False) -> None:
        self.name, self.log, self.home, self.too_large = name, log, home, too_large

    def to(self, device: torch.device) -> "Component":
        self.log.append(f"{self.name} {'leaves' if device == self.home else 'comes'}")
        if self.too_large and device != self.home:
            raise torch.OutOfMemoryError("full")
        return self


@pytest.fixture
def residency() -> Residency:
    """Return one between two names of this machine's memory: "cpu:0" is not equal to "cpu"."""
    return Residency("cpu", home="cpu:0")


def test_one_leaves_before_the_next_comes(residency: Residency) -> None:
    log: list[str] = []
    text, net, codec = (Component(name, log, residency.home) for name in ("text", "net", "codec"))
    for component in (text, net, net, codec, net):
        with residency.hold(component) as held:
            assert held is residency.resident is component
    residency.release()
    residency.release()
    moves = "text comes, text leaves, net comes, net leaves, codec comes, codec leaves, net comes, net leaves"
    assert ", ".join(log) == moves
    assert residency.resident is None


def test_one_that_is_in_use_is_not_sent_away(residency: Residency) -> None:
    log: list[str] = []
    net, codec = (Component(name, log, residency.home) for name in ("net", "codec"))
    with residency.hold(net):
        with residency.hold(net), pytest.raises(InputError, match="Component is in use there"), residency.hold(codec):
            pass
        with pytest.raises(InputError, match="in use"), residency.hold(codec):
            pass
    with residency.hold(codec):
        pass
    assert log == ["net comes", "net leaves", "codec comes"]


def test_one_that_fails_inside_can_be_followed_by_another(residency: Residency) -> None:
    log: list[str] = []
    net, codec = (Component(name, log, residency.home) for name in ("net", "codec"))
    with pytest.raises(ZeroDivisionError), residency.hold(net):
        1 / 0  # noqa: B018
    with residency.hold(codec):
        assert log == ["net comes", "net leaves", "codec comes"]


def test_one_that_does_not_fit_is_back_at_home(residency: Residency) -> None:
    log: list[str] = []
    large = Component("large", log, residency.home, too_large=True)
    with pytest.raises(torch.OutOfMemoryError), residency.hold(large):
        pass
    assert log == ["large comes", "large leaves"]
    assert residency.resident is None


def test_what_cannot_move_takes_no_turn(residency: Residency) -> None:
    net = Component("net", [], residency.home)
    embeddings = {"a red ball": torch.zeros(3)}
    with residency.hold(net), residency.hold(embeddings) as held:
        assert held is embeddings
        assert residency.resident is net


def test_the_weights_at_home_are_the_ones_that_count() -> None:
    """As on a GPU: here a move is a copy in another dtype of what stays."""

    class Moves(nn.Linear):
        def to(self, device: torch.device) -> nn.Module:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().to(torch.float64 if device.index is None else torch.float32)

    residency, layer = Residency("cpu", home="cpu:0"), Moves(3, 4)
    layer.register_buffer("count", torch.zeros(2))
    at_home, expected = layer.weight.data_ptr(), layer.weight.detach().clone()
    with residency.hold(layer), torch.no_grad():
        assert layer.weight.dtype == torch.float64
        layer.weight.zero_()
        layer.count += 1
    residency.release()
    assert layer.weight.data_ptr() == at_home
    assert torch.equal(layer.weight, expected)
    assert torch.equal(layer.count, torch.ones(2))


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="device is 'abacus'"):
        Residency("abacus")


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
@torch.no_grad()
def test_on_a_gpu_the_largest_is_all_that_is_taken(random_net: Callable, device: str) -> None:
    net, other = random_net(PRESETS["toy-video"]), nn.Linear(2048, 2048)
    given = [value.to(device) for value in (torch.randn(1, 16, 2, 4, 6), torch.randn(1), torch.randn(1, 9, 32))]
    residency = Residency(device)
    before = torch.cuda.memory_allocated()
    with residency.hold(net):
        expected = net(*given, fps=24)
    for _ in range(2):
        with residency.hold(other):
            assert torch.cuda.memory_allocated() - before < 4 * 2048 * 2049 + 2**20
            assert net.device.type == "cpu"
        with residency.hold(net):
            assert torch.equal(net(*given, fps=24), expected)
            assert other.weight.device.type == "cpu"
    residency.release()
    from cosmos_diffusion.paging import page

    with page(net, device) as pager, residency.hold(pager):
        assert torch.equal(net(*given, fps=24), expected)
        with pytest.raises(InputError), residency.hold(other):
            pass


@torch.no_grad()
def test_a_paged_network_takes_its_turn(random_net: Callable) -> None:
    class Lane:
        device = torch.device("cpu")

        def host(self, size: int) -> torch.Tensor:
            return torch.empty(size, dtype=torch.uint8)

        place = host

        def start(self, place: torch.Tensor, page: torch.Tensor) -> Callable[[], None]:
            place.copy_(page)
            return lambda: None

    net = random_net(PRESETS["toy-video"])
    given = torch.randn(1, 16, 2, 4, 6), torch.randn(1), torch.randn(1, 9, 32)
    expected = net(*given, fps=24)
    residency, pager = Residency("cpu", home="cpu:0"), Pager(net, list(net.blocks), Lane(), ahead=0)
    pager.to("cpu:0")
    with residency.hold(pager):
        assert torch.equal(net(*given, fps=24), expected)
        assert len(pager.resident) == 1
    with residency.hold(nn.Linear(2, 2)):
        assert pager.resident == ()
