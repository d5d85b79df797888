"""Optimisers by name: those of ``torch.optim``, and this package's Muon, with their state as named tensors."""

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_posttrain.muon import Muon
from cosmos_tokenizer import InputError

# Their steps take sparse gradients, or a function that makes them.
_UNFIT = ("LBFGS", "SparseAdam")
# The rate has a field of its own; a step that is differentiated cannot write into parameters.
_NO_OPTIONS = ("lr", "differentiable")


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
        if not 0 < self.rate < math.inf:
            raise InputError(f"optimizer.rate is {self.rate}: it must be positive and finite")
        _, *known = inspect.signature(optimizer_class(self.name)).parameters.values()
        usual = {option.name: option.default for option in known if option.name not in _NO_OPTIONS}
        for option, value in self.options.items():
            if option not in usual:
                raise InputError(f"optimizer {self.name} has no option {option!r}: it takes {', '.join(usual)}")
            if not _is_like(value, usual[option]):
                raise InputError(
                    f"optimizer {self.name} has {option} {value!r}: give something like {usual[option]!r}, its default"
                )


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Class of that name.

    Raises:
        InputError: there is none.
    """
    found = {
        known.lower(): value
        for known, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and known not in ("Optimizer", *_UNFIT)
    } | {"muon": Muon}
    if name.lower() not in found:
        raise InputError(f"no optimizer {name!r}: there are {', '.join(sorted(found))}")
    return found[name.lower()]


def build(config: OptimizerConfig, groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """The optimiser of some groups; ``set_rate`` sets what they share.

    Raises:
        InputError: an option is out of its range, or a group's weight decay is none of the optimiser's options.
    """
    wanted = []
    for group in groups:
        row: dict[str, Any] = {"params": list(group.parameters.values()), "rate": group.rate}
        if group.weight_decay is not None:
            if "weight_decay" not in inspect.signature(optimizer_class(config.name)).parameters:
                raise InputError(f"optimizer {config.name} has no weight_decay, and a group of parameters asks for one")
            row["weight_decay"] = group.weight_decay
        wanted.append(row)
    options: dict[str, Any] = {"lr": config.rate}
    options |= {name: tuple(value) if isinstance(value, list) else value for name, value in config.options.items()}
    try:
        return optimizer_class(config.name)(wanted, **options)
    except (RuntimeError, ValueError) as error:
        raise _not_taken(config, error) from error


def check(config: OptimizerConfig, device: torch.device) -> None:
    """Build the optimiser and step once, on a matrix and a vector of the run's device: some options fail only there.

    Raises:
        InputError: an option is out of its range, or does not go with the others or with the device.
    """
    values = {
        name: nn.Parameter(torch.zeros(shape, device=device)) for name, shape in (("matrix", (2, 2)), ("vector", 2))
    }
    for value in values.values():
        value.grad = torch.ones_like(value)
    optimizer = build(config, [ParameterGroup(parameters=values)])
    try:
        optimizer.step()
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _not_taken(config, error) from error


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this learning rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def state_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """State of every parameter as ``PARAMETER.ENTRY``: the tensors themselves, to save, or to load in place."""
    return {
        f"{name}.{entry}": value
        for name, parameter in parameters.items()
        for entry, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def make_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], saved: Collection[str]
) -> None:
    """Bring a new optimiser's state into being, for a checkpoint to be loaded into; parameters stay as they are.

    Only parameters of which ``saved`` has a ``PARAMETER.ENTRY`` get one: a parameter without a gradient so far has no
    state, and its first step is not its second.
    """
    with_state = {entry.rpartition(".")[0] for entry in saved}
    rates = [group["lr"] for group in optimizer.param_groups]
    for name, parameter in parameters.items():
        parameter.grad = torch.zeros_like(parameter) if name in with_state else None
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _not_taken(config: OptimizerConfig, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"optimizer {config.name} does not take {dict(config.options)}: {reason}")


def _is_like(value: object, usual: object) -> bool:
    """Whether a value is finite and of the kind of an option's default, of which None may be a switch or a number."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(usual, tuple):
        return isinstance(value, list | tuple) and len(value) == len(usual) and all(map(_is_like, value, usual))
    if isinstance(usual, bool):
        return isinstance(value, bool)
    if usual is None:
        return value is None or isinstance(value, bool | int | float)
    return isinstance(value, int | float) and not isinstance(value, bool)
