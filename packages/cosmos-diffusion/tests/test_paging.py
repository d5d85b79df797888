"""Paging: the same bits, at most so many blocks at once, and copies that begin before the block in front runs."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, DiT
from cosmos_diffusion.paging import Pager, page
from cosmos_diffusion.quantised import quantise
from cosmos_tokenizer import InputError

VIDEO = replace(PRESETS["toy-video"], blocks=5)
needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


class LateLane:
    """A second copy in host memory, like a GPU whose copies arrive no sooner than somebody waits for them.

    Until then, and from the moment that a place is taken again, what is there is NaN. ``log`` tells what happened.
    """

    device = torch.device("cpu", 0)  # not equal to "cpu", as a GPU is not

    def __init__(self) -> None:
        self.log: list[str] = []
        self.pages: list[int] = []
        self.places = 0
        self.on_their_way: set[int] = set()

    def host(self, size: int) -> Tensor:
        memory = torch.empty(size, dtype=torch.uint8)
        self.pages.append(memory.data_ptr())
        return memory

    def place(self, size: int) -> Tensor:
        self.places += 1
        return torch.full((size,), 255, dtype=torch.uint8)

    def start(self, place: Tensor, page: Tensor) -> Callable[[], None]:
        index = self.pages.index(page.data_ptr())
        self.log.append(f"load {index}")
        place.fill_(255)
        number, arrived = len(self.log), False
        self.on_their_way.add(number)

        def wait() -> None:
            nonlocal arrived
            if not arrived:
                place.copy_(page)
                self.on_their_way.discard(number)
            arrived = True

        return wait


def inputs(config=VIDEO, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 16, 3, 4, 6), torch.randn(batch), torch.randn(batch, 9, config.text_width)


def note_runs(net: DiT, log: list[str]) -> None:
    for index, block in enumerate(net.blocks):
        block.register_forward_pre_hook(lambda block, given, index=index: log.append(f"run {index}"))


@pytest.mark.parametrize("ahead", [0, 1, 2, 4, 9])
@torch.no_grad()
def test_paged_outputs_are_the_same_bits(random_net: Callable, ahead: int) -> None:
    net, given = random_net(VIDEO), inputs()
    expected = net(*given, fps=24)
    lane = LateLane()
    with Pager(net, list(net.blocks), lane, ahead=ahead) as pager:
        for _ in range(3):
            assert torch.equal(net(*given, fps=24), expected)
            assert len(pager.resident) == lane.places == min(ahead + 1, 5)
    assert torch.equal(net(*given, fps=24), expected)
    assert pager.resident == ()


@torch.no_grad()
def test_a_block_is_on_its_way_while_the_one_in_front_runs(random_net: Callable) -> None:
    net, lane = random_net(VIDEO), LateLane()
    with Pager(net, list(net.blocks), lane, ahead=1):
        for part in net.blocks:
            for inner in part.modules():
                inner.register_forward_hook(
                    lambda inner, given, output, part=part: lane.log.append(f"run {list(net.blocks).index(part)}")
                )
        net(*inputs(), fps=24)
        net(*inputs(), fps=24)
    order = [entry for before, entry in zip(["", *lane.log], lane.log, strict=False) if entry != before]
    once = "load 1,run 0,load 2,run 1,load 3,run 2,load 4,run 3,load 0,run 4"
    assert ",".join(order) == f"load 0,{once},{once}"


@torch.no_grad()
def test_without_blocks_ahead_one_is_there_at_a_time(random_net: Callable) -> None:
    net, lane = random_net(VIDEO), LateLane()
    most = 0
    with Pager(net, list(net.blocks), lane, ahead=0) as pager:
        for block in net.blocks:
            block.register_forward_hook(lambda *_: seen.append(pager.resident))
        seen: list[tuple[int, ...]] = []
        net(*inputs(), fps=24)
    most = max(len(resident) for resident in seen)
    assert most == 1
    assert seen == [(0,), (1,), (2,), (3,), (4,)]
    assert lane.log == [f"load {index}" for index in range(5)]


@torch.no_grad()
def test_blocks_that_all_fit_are_copied_once(random_net: Callable) -> None:
    net, lane = random_net(VIDEO), LateLane()
    with Pager(net, list(net.blocks), lane, ahead=7):
        for _ in range(3):
            net(*inputs(), fps=24)
    assert sorted(lane.log) == [f"load {index}" for index in range(5)]


@torch.no_grad()
def test_what_is_prepared_pages_too(random_net: Callable) -> None:
    net, given = random_net(VIDEO), inputs()
    expected = net(*given, fps=24)
    lane = LateLane()
    with Pager(net, list(net.blocks), lane) as pager:
        level, text = net.prepare_level(given[1]), net.prepare_text(given[2])
        assert len(pager.resident) == 2
        assert torch.equal(net(given[0], level, text, fps=24), expected)
        assert torch.equal(net(given[0], level, text, fps=24), expected)


@pytest.mark.parametrize("form", ["int8", "float8"])
@torch.no_grad()
def test_quantised_blocks_page_in_less_memory(random_net: Callable, form: str) -> None:
    net, given = random_net(VIDEO).to(torch.bfloat16), inputs()

    def page_size() -> int:
        return sum(value.numel() * value.element_size() for value in net.blocks[0].parameters())

    before = page_size()
    quantise(net, form)
    assert page_size() < 0.6 * before
    expected = net(*given, fps=24)
    with Pager(net, list(net.blocks), LateLane()):
        assert torch.equal(net(*given, fps=24), expected)


@torch.no_grad()
def test_the_weights_can_be_read_at_any_time(random_net: Callable) -> None:
    net = random_net(VIDEO)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Pager(net, list(net.blocks), LateLane(), ahead=0):
        net(*inputs(), fps=24)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@torch.no_grad()
def test_a_turn_given_up_is_taken_again(random_net: Callable) -> None:
    net, given = random_net(VIDEO), inputs()
    expected, lane = net(*given, fps=24), LateLane()
    with Pager(net, list(net.blocks), lane) as pager:
        net(*given, fps=24)
        assert lane.on_their_way
        assert pager.to("cpu").resident == ()
        assert not lane.on_their_way  # whose places are free now
        with pytest.raises(InputError, match="not on cpu:0: call"):
            net(*given, fps=24)
        assert torch.equal(pager.to(lane.device).net(*given, fps=24), expected)
        assert len(pager.resident) == 2
        for _ in range(2):  # the same block in its turn before and after
            level = net.blocks[4].tables(net.noise_level(given[1]))
            assert 4 in pager.resident
            pager.to("cpu").to(lane.device)
        assert torch.equal(level, net.prepare_level(given[1]).blocks[4])
        with pytest.raises(InputError, match="paged to cpu:0, and was to go to meta"):
            pager.to("meta")


@torch.no_grad()
def test_a_forward_that_fails_leaves_paging_whole(random_net: Callable) -> None:
    net, given = random_net(VIDEO), inputs()
    expected = net(*given, fps=24)
    with Pager(net, list(net.blocks), LateLane()) as pager:
        hook = net.blocks[2].down.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            net(*given, fps=24)
        hook.remove()
        assert len(pager.resident) == 2
        assert torch.equal(net(*given, fps=24), expected)


def test_inference_mode_pages_too(random_net: Callable) -> None:
    net, given = random_net(VIDEO), inputs()
    with torch.inference_mode():
        expected = net(*given, fps=24)
        with Pager(net, list(net.blocks), LateLane()):
            assert torch.equal(net(*given, fps=24), expected)
    net(*given, fps=24).sum().backward()
    assert net.blocks[0].up.weight.grad is not None


def test_gradients_are_refused(random_net: Callable) -> None:
    net = random_net(VIDEO)
    with Pager(net, list(net.blocks), LateLane()), pytest.raises(InputError, match="torch.no_grad"):
        net(*inputs(), fps=24)


@torch.no_grad()
def test_weights_changed_behind_its_back_are_refused(random_net: Callable) -> None:
    net = random_net(VIDEO)
    with Pager(net, list(net.blocks), LateLane()):
        net.to(torch.bfloat16)
        with pytest.raises(InputError, match="moved or changed while paged"):
            net(*inputs(), fps=24)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_paging_to_where_the_weights_are_already_is_refused(random_net: Callable) -> None:
    net = random_net(VIDEO)
    with pytest.raises(InputError, match="from host memory to a GPU, and device is cpu: leave it out"):
        page(net, "cpu")
    with pytest.raises(InputError, match="device is 'cuda'"):
        page(net, "cuda")
    with pytest.raises(InputError, match="5 blocks with -1 ahead"):
        Pager(net, list(net.blocks), LateLane(), ahead=-1)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
@pytest.mark.parametrize("ahead", [0, 1, 2])
@pytest.mark.parametrize("form", [None, "int8"])
@torch.no_grad()
def test_a_gpu_computes_the_same_bits_in_less_memory(
    random_net: Callable, device: str, ahead: int, form: str | None
) -> None:
    config = replace(VIDEO, blocks=12, width=768, heads=12)
    net = random_net(config).to(torch.bfloat16)
    if form is not None:
        quantise(net, form)
    given = [value.to(device) for value in inputs(config)]
    net.to(device)
    expected = net(*given, fps=24)
    net.to("cpu")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    block = sum(value.numel() * value.element_size() for value in net.blocks[0].parameters())
    whole = sum(value.numel() * value.element_size() for value in net.parameters())
    with page(net, device, ahead=ahead):
        for _ in range(4):
            assert torch.equal(net(*given, fps=24), expected)
        peak = torch.cuda.max_memory_allocated() - before
    assert peak < whole - (11 - ahead) * block + 32 * 2**20
    assert all(value.device.type == "cpu" for value in net.parameters())


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_cuda)])
@torch.no_grad()
def test_a_gpu_copies_while_it_computes(random_net: Callable, device: str) -> None:
    config = replace(VIDEO, blocks=6, width=1536, heads=12, grid=(16, 64, 64))
    net = random_net(config).to(torch.bfloat16)
    x, c_noise, text = torch.randn(1, 16, 8, 64, 64), torch.randn(1), torch.randn(1, 16, 32)
    given = [value.to(device) for value in (x, c_noise, text)]
    with page(net, device):
        net(*given, fps=24)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            net(*given, fps=24)
            torch.cuda.synchronize()
    events = [event for event in profile.events() if event.device_type.name == "CUDA"]
    copies = [event.time_range for event in events if "Memcpy HtoD" in event.name]
    kernels = [event.time_range for event in events if "Mem" not in event.name]
    assert len(copies) >= 6
    overlapping = [c for c in copies if any(k.start < c.end and c.start < k.end for k in kernels)]
    assert len(overlapping) >= 5
