"""Paging: a network's blocks wait in host memory, and each is on the GPU for its turn, copied while others compute."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cosmos_diffusion.network import DiT
from cosmos_tokenizer import InputError
from cosmos_tokenizer.devices import available_device

_ALIGNMENT = 256


@runtime_checkable
class Lane(Protocol):
    """Where pages wait, where they are used, and how they get there; pages are bytes."""

    @property
    def device(self) -> torch.device:
        """Where they are used."""
        ...

    def host(self, size: int) -> Tensor:
        """Memory for a page that waits."""
        ...

    def place(self, size: int) -> Tensor:
        """Memory for a page in use."""
        ...

    def start(self, place: Tensor, page: Tensor) -> Callable[[], None]:
        """Begin to copy, once all that was computed so far has let go of the place.

        What is returned makes all that is computed from then on wait for the copy, and may be called more than once.
        """
        ...


class CudaLane:
    """Pinned host memory to a GPU, on a stream of its own, beside the one that computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def host(self, size: int) -> Tensor:
        """Pinned, so that copies from it need no thread of the host; torch rounds each up to a power of two."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def place(self, size: int) -> Tensor:
        """On the GPU."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def start(self, place: Tensor, page: Tensor) -> Callable[[], None]:
        """A copy that overlaps with what is computed after this call."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            place.copy_(page, non_blocking=True)
            done = self._stream.record_event()
        return lambda: torch.cuda.current_stream(self.device).wait_event(done)


class _Slot(NamedTuple):
    """Of one tensor in a page."""

    tensor: Tensor
    dtype: torch.dtype
    shape: torch.Size
    first: int

    def view(self, memory: Tensor) -> Tensor:
        size = self.shape.numel() * self.dtype.itemsize
        return memory[self.first : self.first + size].view(self.dtype).view(self.shape)


class _Page(NamedTuple):
    slots: tuple[_Slot, ...]
    host: Tensor


class _Resident(NamedTuple):
    place: Tensor
    arrived: Callable[[], None]


class Pager:
    """Keeps at most ``ahead + 1`` blocks of a network on the device, for inference.

    The first use of anything in a block brings the block, lets go of those that are not among the next ``ahead``, and
    begins to copy these, first to last and round again; so preparing text or noise levels block by block pages too.
    What stands outside the blocks is on the device all along. Each block is one copy, without any allocation.

    Outputs are the same bits as with everything on the device. Weights are read, never written back: bring the network
    to its dtype, merge and quantise it before. It is not for ``torch.compile``.

    Args:
        net: the network; its weights move to the lane's host memory.
        blocks: the parts to page, in the order in which they run.
        lane: how they travel.
        ahead: blocks copied ahead of the one that runs; 0 copies without any overlap, in the least memory.

    Raises:
        InputError: ``ahead`` is negative, or there are no blocks.
    """

    @torch.inference_mode(False)  # weights that are set within it could never be trained again
    def __init__(self, net: nn.Module, blocks: Sequence[nn.Module], lane: Lane, *, ahead: int = 1) -> None:
        if ahead < 0 or not blocks:
            raise InputError(f"paging {len(blocks)} blocks with {ahead} ahead: give one block at least, and 0 or more")
        self.net, self.lane, self.ahead = net, lane, ahead
        self._pages = [_packed(block, lane) for block in blocks]
        self._inside = {part for block in blocks for part in block.modules()}
        self._places: list[Tensor] = []
        self._resident: dict[int, _Resident] = {}
        self._current: int | None = None
        self._hooks = [
            part.register_forward_pre_hook(partial(self._before, index))
            for index, block in enumerate(blocks)
            for part in block.modules()
            if any(True for _ in part.parameters(recurse=False)) or any(True for _ in part.buffers(recurse=False))
        ]
        self.to(lane.device)

    @property
    def resident(self) -> tuple[int, ...]:
        """Blocks that have a place on the device now."""
        return tuple(sorted(self._resident))

    @torch.inference_mode(False)
    def to(self, device: str | torch.device) -> "Pager":
        """Take the network's places on the lane's device, or give up all that it has there, for another's turn.

        Raises:
            InputError: it is neither the lane's device nor the host's.
        """
        target = torch.device(device)
        if target == self.lane.device:
            largest = max(len(page.host) for page in self._pages)
            count = min(self.ahead + 1, len(self._pages)) - len(self._places)
            self._places += [self.lane.place(largest) for _ in range(count)]
        elif target.type == "cpu":
            for index in self.resident:
                self._evict(index)
            self._places.clear()
        else:
            raise InputError(f"the network is paged to {self.lane.device}, and was to go to {target}: give one of them")
        for part in self.net.modules():
            if part not in self._inside:
                _move(part, target)
        return self

    def close(self) -> None:
        """End paging; all weights are in host memory then."""
        self.to("cpu")
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "Pager":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _before(self, index: int, part: nn.Module, given: object) -> None:
        if torch.is_grad_enabled():
            raise InputError("a paged network keeps no weights for gradients: run it under torch.no_grad()")
        if index != self._current:
            self._turn(index)

    @torch.inference_mode(False)
    def _turn(self, index: int) -> None:
        if not self._places:
            raise InputError(
                f"the paged network is not on {self.lane.device}: call to({str(self.lane.device)!r}) first"
            )
        wanted = [(index + step) % len(self._pages) for step in range(len(self._places))]
        for other in self.resident:
            if other not in wanted:
                self._evict(other)
        for each in wanted:
            if each not in self._resident:
                self._load(each)
        self._resident[index].arrived()
        self._current = index

    def _load(self, index: int) -> None:
        page = self._pages[index]
        taken = {id(resident.place) for resident in self._resident.values()}
        place = next(place for place in self._places if id(place) not in taken)
        for slot in page.slots:
            if slot.tensor.data_ptr() != slot.view(page.host).data_ptr():
                raise InputError("weights were moved or changed while paged: do so before paging, or close it first")
        arrived = self.lane.start(place[: len(page.host)], page.host)
        self._resident[index] = _Resident(place, arrived)
        for slot in page.slots:
            slot.tensor.data = slot.view(place)

    def _evict(self, index: int) -> None:
        self._resident.pop(index).arrived()  # a place whose page is still on its way is not free yet
        page = self._pages[index]
        for slot in page.slots:
            slot.tensor.data = slot.view(page.host)
        if index == self._current:
            self._current = None


def page(net: DiT, device: str | torch.device, *, ahead: int = 1) -> Pager:
    """Page the blocks of a diffusion transformer to a GPU; see :class:`Pager`, which may be used in a ``with``.

    Raises:
        InputError: torch sees no such device, or it is not a CUDA one; ``ahead`` is negative.
    """
    target = available_device(device)
    if target.type != "cuda":
        raise InputError(f"paging is from host memory to a GPU, and device is {target}: leave it out")
    if target.index is None:
        target = torch.device("cuda", torch.cuda.current_device())
    return Pager(net, list(net.blocks), CudaLane(target), ahead=ahead)


def _packed(block: nn.Module, lane: Lane) -> _Page:
    """A block's tensors in one piece of host memory, where they are from now on."""
    slots: list[_Slot] = []
    end = 0
    for tensor in dict.fromkeys([*block.parameters(), *block.buffers()]):
        slots.append(_Slot(tensor, tensor.dtype, tensor.shape, end))
        end += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    page = _Page(tuple(slots), lane.host(end))
    for slot in slots:
        view = slot.view(page.host)
        view.copy_(slot.tensor.detach())
        slot.tensor.data = view
    return page


def _move(part: nn.Module, device: torch.device) -> None:
    """A module's own tensors, not those of its parts."""
    for parameter in part.parameters(recurse=False):
        parameter.data = parameter.data.to(device)
    for name, buffer in part.named_buffers(recurse=False):
        part._buffers[name] = buffer.to(device)
