"""Optimisers by name: those of ``torch.optim``, and this package's Muon, with their state as named tensors."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_posttrain.muon import Muon
from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterGroup:
    """Parameters that share a rate.

    `parameters` by name, as they are after sharding; `rate` multiplies the learning rate; `weight_decay` replaces the
    optimiser's; `averaged`: whether moving averages follow them.
    """

    parameters: Mapping[str, nn.Parameter]
    rate: float = 1.0
    weight_decay: float | None = None
    averaged: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Name of an optimiser ("muon", or a class of ``torch.optim``, such as "adamw"), its rate, and its options."""

    name: str = "adamw"
    rate: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"optimizer.rate is {self.rate}: it must be positive")
        known = inspect.signature(optimizer_class(self.name)).parameters
        for option in self.options:
            if option not in known or option in ("params", "lr"):
                takes = ", ".join(name for name in known if name not in ("params", "lr"))
                raise InputError(f"optimizer {self.name} has no option {option!r}: it takes {takes}")


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Class of that name.

    Raises:
        InputError: there is none.
    """
    found = {
        known.lower(): value
        for known, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and known not in ("Optimizer", "LBFGS")
    } | {"muon": Muon}
    if name.lower() not in found:
        raise InputError(f"no optimizer {name!r}: there are {', '.join(sorted(found))}")
    return found[name.lower()]


def build(config: OptimizerConfig, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """The optimiser of some groups; ``set_rate`` sets what they share."""
    wanted = []
    for group in groups:
        row: dict[str, Any] = {"params": list(group.parameters.values()), "rate": group.rate}
        if group.weight_decay is not None:
            row["weight_decay"] = group.weight_decay
        wanted.append(row)
    options: dict[str, Any] = {"lr": config.rate, **config.options}
    return optimizer_class(config.name)(wanted, **options)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this learning rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def state_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """State of every parameter as ``PARAMETER.ENTRY``: the tensors themselves, to save, or to load in place."""
    return {
        f"{name}.{entry}": value
        for name, parameter in parameters.items()
        for entry, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def make_state(optimizer: torch.optim.Optimizer) -> None:
    """Bring a new optimiser's state into being, for a checkpoint to be loaded into; parameters stay as they are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rates = [group["lr"] for group in optimizer.param_groups]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
