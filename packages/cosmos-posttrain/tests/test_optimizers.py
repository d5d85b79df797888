"""Optimisers by name: groups, rates, state that is saved and loaded, and what is refused."""

import pytest
import torch
from torch import nn

from cosmos_posttrain import OptimizerConfig, ParameterGroup
from cosmos_posttrain.muon import Muon
from cosmos_posttrain.optimizers import build, make_state, optimizer_class, set_rate, state_tensors
from cosmos_tokenizer import InputError

NAMES = ["adamw", "Adam", "sgd", "rmsprop", "nadam", "adafactor", "muon"]


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(4, 3, generator=generator)) for name in ("a", "b")}


def steps(optimizer: torch.optim.Optimizer, values: dict[str, nn.Parameter], first: int, count: int) -> None:
    for step in range(first, first + count):
        for index, value in enumerate(values.values()):
            value.grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(10 * step + index))
        optimizer.step()


def test_names_are_torchs_in_any_case_and_muon_is_ours() -> None:
    assert optimizer_class("AdamW") is optimizer_class("adamw") is torch.optim.AdamW
    assert optimizer_class("muon") is Muon


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_named_tensors_bit_for_bit(name: str) -> None:
    whole, cut = parameters(), parameters()
    config = OptimizerConfig(name=name, rate=0.01)
    optimizer = build(config, [ParameterGroup(parameters=whole)])
    steps(optimizer, whole, 0, 6)
    first = build(config, [ParameterGroup(parameters=cut)])
    steps(first, cut, 0, 3)
    saved = {key: value.clone() for key, value in state_tensors(first, cut).items()}
    second = build(config, [ParameterGroup(parameters=cut)])
    before = [value.detach().clone() for value in cut.values()]
    make_state(second)
    assert all(torch.equal(a, b) for a, b in zip(before, cut.values(), strict=True))
    assert all(value.grad is None for value in cut.values())
    found = state_tensors(second, cut)
    assert found.keys() == saved.keys()
    for key, value in found.items():
        value.copy_(saved[key])
    steps(second, cut, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.values(), cut.values(), strict=True))


def test_groups_have_their_own_rate_and_decay() -> None:
    values = parameters()
    groups = [
        ParameterGroup(parameters={"a": values["a"]}, rate=0.5, weight_decay=0.0),
        ParameterGroup(parameters={"b": values["b"]}),
    ]
    optimizer = build(OptimizerConfig(rate=1.0, options={"weight_decay": 0.3}), groups)
    set_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.3]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"name": "adamm", "rate": 1.0}, "no optimizer 'adamm': there are .*adamw"),
        ({"name": "sgd", "rate": 1.0, "options": {"betas": 1}}, "sgd has no option 'betas': it takes momentum"),
        ({"name": "sgd", "rate": 1.0, "options": {"lr": 1}}, "no option 'lr'"),
    ],
)
def test_another_optimizer_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        OptimizerConfig(**fields)
