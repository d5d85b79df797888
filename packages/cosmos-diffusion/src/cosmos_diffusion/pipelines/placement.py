"""Where a pipeline's parts are: all on the device, one at a time, or the network's blocks page by page."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from cosmos_diffusion.network import DiT
from cosmos_diffusion.paging import page
from cosmos_diffusion.parallel import Team
from cosmos_diffusion.quantised import Form, quantise
from cosmos_diffusion.residency import Movable, Residency
from cosmos_diffusion.step_cache import StepCache
from cosmos_tokenizer import InputError
from cosmos_tokenizer.devices import available_device

Offload = Literal["none", "components", "blocks"]
"""All on the device; text encoder, network and codec in turn; and of the network one block ahead of another."""
OFFLOADS: tuple[Offload, ...] = get_args(Offload)


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """How a pipeline uses memory; see ``memory`` for what each option comes to.

    `device`: where it runs; by default where the network's weights are, or of a team its own.
    `offload`: what waits in the host's memory. `weights`: eight bits for the network's, which compute in its dtype.
    `in_turn`: predict with the prompt and without it one after the other, not as one batch: fewer activations.
    `cache`: threshold below which steps reuse what blocks did at the one before, which is faster, and changes the clip;
    see ``StepCache``. None is off. It needs both predictions in one batch.

    Raises:
        InputError: ``offload`` is none of the three; the threshold is negative or not a number, or ``in_turn`` too.
    """

    device: str | torch.device | None = None
    offload: Offload = "none"
    weights: Form | None = None
    in_turn: bool = False
    cache: int | float | None = None

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise InputError(f"offload is {self.offload!r}: use {', '.join(OFFLOADS)}")
        if self.cache is not None:
            StepCache(self.cache)
            if self.in_turn:
                raise InputError("cache is for both predictions in one batch: leave it out, or in_turn")


class Places:
    """A pipeline's parts, in place. The network is changed where it is: quantised, paged, spread over a team.

    Raises:
        InputError: there is no such device, paging is not to a GPU, or it goes with sharing weights out.
    """

    def __init__(self, placement: Placement, net: DiT, team: Team | None) -> None:
        spread = team is not None and team.plan.processes > 1
        if team is not None and spread and team.plan.sharded and (placement.offload == "blocks" or placement.weights):
            raise InputError("weights are to be shared out to processes, and paged or in eight bits too: choose one")
        device = placement.device or (team.device if spread and team is not None else net.device)
        self.device = available_device(device)
        if placement.weights is not None:
            quantise(net, placement.weights)
        self._residency = None if placement.offload == "none" else Residency(self.device)
        self._ends = ExitStack()
        self._net: Any = net
        if placement.offload == "blocks":
            self._net = self._ends.enter_context(page(net, self.device))
            self._net.to("cpu")
        elif self._residency is None and not (team is not None and team.plan.sharded):
            net.to(self.device)
        if team is not None:
            self._ends.enter_context(team.spread(net))

    def settle(self, part: object) -> None:
        """Move a part to the device for good, where all parts stay there."""
        if self._residency is None and isinstance(part, Movable):
            part.to(self.device)

    def network(self) -> AbstractContextManager[object]:
        """The network on the device for the block."""
        return self.use(self._net)

    @contextmanager
    def use(self, part: object) -> Iterator[object]:
        """A part on the device for the block; what cannot move is where it is."""
        if self._residency is None:
            yield part
            return
        with self._residency.hold(part):
            yield part

    def close(self) -> None:
        """Send all home, and give the network back as it was, but for its dtype and device."""
        if self._residency is not None:
            self._residency.release()
        self._ends.close()
