"""One component on the device at a time: text encoder, transformer and codec take turns, the rest wait at home."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from cosmos_tokenizer import InputError
from cosmos_tokenizer.devices import available_device


@runtime_checkable
class Movable(Protocol):
    """A module, a pager, or whatever else takes memory on a device and can give it up."""

    def to(self, device: torch.device, /) -> Any:  # noqa: ANN401 - modules return themselves
        """Move there."""
        ...


T = TypeVar("T")


class Residency:
    """At most one of a pipeline's components on the device.

    A component moves in when it is held and stays until another is held, so that a loop over one moves it once. The
    weights of a module are copied to the device and never back: those on the host are the ones that count, and changes
    made to them on the device are lost when it leaves.

    Args:
        device: where components run.
        home: where they wait.

    Raises:
        InputError: torch sees no such device.
    """

    def __init__(self, device: str | torch.device, *, home: str | torch.device = "cpu") -> None:
        self.device, self.home = available_device(device), torch.device(home)
        self._resident: Movable | None = None
        self._left: list[tuple[nn.Parameter, Tensor]] = []
        self._held = False

    @property
    def resident(self) -> object | None:
        """The component on the device, if any."""
        return self._resident

    @contextmanager
    def hold(self, component: T) -> Iterator[T]:
        """Bring a component to the device for the block, and keep all others off it.

        What cannot move (precomputed embeddings, say) takes no turn.

        Raises:
            InputError: another is held.
            torch.OutOfMemoryError: it does not fit, and is back at home.
        """
        if not isinstance(component, Movable):
            yield component
            return
        if self._held and component is not self._resident:
            raise InputError(
                f"{type(component).__name__} was to be on {self.device}, and {type(self._resident).__name__} is in use "
                "there: end that first, or let both stay"
            )
        outermost = not self._held
        if component is not self._resident:
            self.release()
            self._move_in(component)
        self._held = True
        try:
            yield component
        finally:
            if outermost:
                self._held = False

    @torch.inference_mode(False)  # weights that are set within it could never be trained again
    def release(self) -> None:
        """Send home what is on the device."""
        resident, self._resident = self._resident, None
        if resident is None:
            return
        for parameter, at_home in self._left:
            parameter.data = at_home
        self._left.clear()
        resident.to(self.home)  # buffers, and whatever is no parameter
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # in whole pieces for the next, whose sizes are others

    @torch.inference_mode(False)
    def _move_in(self, component: Movable) -> None:
        self._resident = component
        try:
            if isinstance(component, nn.Module):
                self._left = [
                    (parameter, parameter.data)
                    for parameter in component.parameters()
                    if parameter.device.type == self.home.type
                ]
            component.to(self.device)
        except BaseException:
            self.release()
            raise
