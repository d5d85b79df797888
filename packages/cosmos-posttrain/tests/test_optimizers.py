"""Optimisers by name: groups, rates, state that is saved and loaded, and what is refused."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from cosmos_posttrain import LoopConfig, OptimizerConfig, ParameterGroup, train
from cosmos_posttrain.muon import Muon
from cosmos_posttrain.optimizers import build, check, make_state, optimizer_class, set_rate, state_tensors
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
    make_state(second, cut, saved)
    assert all(torch.equal(a, b) for a, b in zip(before, cut.values(), strict=True))
    assert all(value.grad is None for value in cut.values())
    found = state_tensors(second, cut)
    assert found.keys() == saved.keys()
    for key, value in found.items():
        value.copy_(saved[key])
    steps(second, cut, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.values(), cut.values(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_without_a_gradient_so_far_gets_no_state(name: str) -> None:
    config = OptimizerConfig(name=name, rate=0.01)
    values = parameters()
    first, second = (build(config, [ParameterGroup(parameters=values)]) for _ in range(2))
    steps(first, {"a": values["a"]}, 0, 3)
    saved = state_tensors(first, values)
    make_state(second, values, saved)
    assert state_tensors(second, values).keys() == saved.keys()
    assert values["b"] not in second.state


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_groups_have_their_own_rate_and_decay(name: str) -> None:
    values = parameters()
    groups = [
        ParameterGroup(parameters={"a": values["a"]}, rate=0.5, weight_decay=0.0),
        ParameterGroup(parameters={"b": values["b"]}),
    ]
    optimizer = build(OptimizerConfig(name=name, rate=1.0, options={"weight_decay": 0.3}), groups)
    set_rate(optimizer, 0.2)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.3]


def test_a_decay_that_the_optimizer_does_not_know_is_refused() -> None:
    group = ParameterGroup(parameters=parameters(), weight_decay=0.1)
    with pytest.raises(InputError, match="optimizer rprop has no weight_decay"):
        build(OptimizerConfig(name="rprop", rate=1.0), [group])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rate": 0.0}, "rate is 0.0"),
        ({"name": "adamm", "rate": 1.0}, "no optimizer 'adamm': there are .*adamw"),
        ({"name": "sgd", "rate": 1.0, "options": {"betas": 1}}, "sgd has no option 'betas': it takes momentum"),
        ({"name": "sgd", "rate": 1.0, "options": {"lr": 1}}, "no option 'lr'"),
        ({"name": "adam", "rate": 1.0, "options": {"differentiable": True}}, "no option 'differentiable'"),
        ({"name": "muon", "rate": 1.0, "options": {"parameters": []}}, "no option 'parameters'"),
        ({"name": "sparseadam", "rate": 1.0}, "no optimizer 'sparseadam'"),
        ({"rate": float("inf")}, "rate is inf"),
        ({"rate": 1.0, "options": {"betas": "fast"}}, r"has betas 'fast': give something like \(0\.9, 0\.999\)"),
        ({"rate": 1.0, "options": {"betas": [0.9]}}, r"has betas \[0\.9\]"),
        ({"rate": 1.0, "options": {"betas": [0.9, None]}}, r"has betas \[0\.9, None\]"),
        ({"rate": 1.0, "options": {"weight_decay": True}}, "has weight_decay True: give something like 0.01"),
        ({"rate": 1.0, "options": {"amsgrad": 1}}, "has amsgrad 1: give something like False"),
        ({"rate": 1.0, "options": {"foreach": "yes"}}, "has foreach 'yes'"),
        ({"rate": 1.0, "options": {"eps": float("inf")}}, "has eps inf"),
        ({"rate": 1.0, "options": {"betas": [0.9, float("nan")]}}, r"has betas \[0\.9, nan\]"),
    ],
)
def test_another_optimizer_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        OptimizerConfig(**fields)
    assert "\n" not in str(raised.value)


def test_an_option_out_of_its_range_is_one_line() -> None:
    config = OptimizerConfig(rate=1.0, options={"betas": [1.5, 0.9]})
    with pytest.raises(InputError, match=r"adamw does not take {'betas': \[1\.5, 0\.9\]}: Invalid beta .* 1\.5"):
        build(config, [ParameterGroup(parameters=parameters())])


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_with_its_defaults_passes_the_trial_step(name: str) -> None:
    check(OptimizerConfig(name=name, rate=0.01), torch.device("cpu"))


@pytest.mark.parametrize(
    "options", [{"betas": [0.5, 0.9], "eps": 1, "amsgrad": True, "foreach": None}, {"foreach": False, "fused": None}]
)
def test_options_of_their_kinds_are_taken(options: dict[str, Any]) -> None:
    values = parameters()
    optimizer = build(OptimizerConfig(rate=1.0, options=options), [ParameterGroup(parameters=values)])
    steps(optimizer, values, 0, 1)
    taken = {name: optimizer.defaults[name] for name in options}
    assert taken == options | ({"betas": tuple(options["betas"])} if "betas" in options else {})


def test_masters_in_half_precision_are_refused(line: ModuleType, tmp_path: Path) -> None:
    objective = line.Line()
    for group in objective.groups():
        for value in group.parameters.values():
            value.data = value.data.bfloat16()
    with pytest.raises(InputError, match="is bfloat16, in which small steps are lost: load it in float32"):
        train(
            objective, line.PointStream(), LoopConfig(steps=1, optimizer=OptimizerConfig(rate=0.01)), tmp_path / "run"
        )
