"""Weights in eight bits: how far off, how small, and that files and changes of dtype keep them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cosmos_diffusion import PRESETS, DiT, quantised
from cosmos_diffusion.nn import Linear
from cosmos_diffusion.quantised import FORMS, QuantisedLinear, dequantise, quantise, quantise_like
from cosmos_tokenizer import InputError, tensor_files

FORM = pytest.mark.parametrize("form", FORMS)
CPU_AND_GPU = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ],
)
VIDEO = PRESETS["toy-video"]


def inputs(device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    given = torch.randn(2, 16, 3, 4, 6), torch.randn(2), torch.randn(2, 9, 32)
    x, c_noise, text = (value.to(device) for value in given)
    return x, c_noise, text


def stored(net: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in net.state_dict().values())


@FORM
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_is_off_by_no_more_than_the_stated_bound(form: str, dtype: torch.dtype) -> None:
    layer = Linear(37, 29).to(dtype)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-3, 1, 29)[:, None])  # channels of very different size
    largest = layer.weight.float().abs().amax(1, keepdim=True)
    small = QuantisedLinear(layer, form)
    assert small.weight.dtype == dtype
    exact = small.codes if form == "int8" else small.codes.view(torch.float8_e4m3fn)
    error = (exact.double() * small.scale[:, None] - layer.weight.double()).abs()
    bound = largest / 254 if form == "int8" else torch.maximum(layer.weight.float().abs() / 16, largest / 458752)
    assert (error <= bound * (1 + 1e-5)).all()
    assert (error > bound * 0.5).any()
    rounding = torch.finfo(dtype).eps / 2 * layer.weight.float().abs() * 1.07
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert ((small.weight.float() - layer.weight.float()).abs() <= bound * (1 + 1e-5) + rounding + smallest).all()


@FORM
def test_a_network_is_near_in_a_quarter_of_the_memory(random_net: Callable, form: str) -> None:
    net, given = random_net(VIDEO), inputs()
    with torch.no_grad():
        expected, before = net(*given, fps=24), stored(net)
        quantise(net, form)
        y = net(*given, fps=24)
    assert not any(isinstance(part, Linear) for part in net.modules())
    assert stored(net) < 0.31 * before  # the tables of positions stay, and a scale a channel is much on a toy
    error = (y - expected).norm() / expected.norm()
    assert 1e-3 < error < {"int8": 0.02, "float8": 0.08}[form]


@FORM
@pytest.mark.parametrize(("preset", "billions"), [("7b-video2world", 7.236), ("14b-text2world", 14.267)])
def test_a_released_net_takes_a_byte_a_weight(form: str, preset: str, billions: float) -> None:
    with torch.device("meta"):
        net = DiT(PRESETS[preset]).to(torch.bfloat16)
    assert stored(net) / 1e9 == pytest.approx(2 * billions, rel=1e-3)
    quantise(net, form)
    assert stored(net) / 1e9 == pytest.approx(billions, rel=2e-3)
    assert net.dtype == torch.bfloat16


@FORM
@CPU_AND_GPU
def test_a_file_gives_the_same_bits_back(random_net: Callable, tmp_path: Path, form: str, device: str) -> None:
    net, given = random_net(VIDEO).to(device, torch.bfloat16), inputs(device)
    quantise(net, form, skip=("noise",))
    assert type(net.noise.up) is Linear
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    state, _ = tensor_files.read(tmp_path / "net.safetensors")
    with torch.device("meta"):
        other = DiT(VIDEO).to(torch.bfloat16)
    quantise_like(other, state)
    other.load_state_dict(state, assign=True)
    with torch.no_grad():
        assert torch.equal(other.to(device)(*given, fps=24), net(*given, fps=24))


def test_a_state_without_codes_changes_nothing(random_net: Callable) -> None:
    net = random_net(VIDEO)
    quantise_like(net, net.state_dict())
    assert not any(isinstance(part, QuantisedLinear) for part in net.modules())


@FORM
def test_another_dtype_keeps_codes_and_scales(random_net: Callable, form: str) -> None:
    net, given = random_net(VIDEO), inputs()
    quantise(net, form)
    exact = {name: value.clone() for name, value in net.state_dict().items() if name.endswith(("codes", "scale"))}
    with torch.no_grad():
        expected = net(*given, fps=24)
        half = net.to(torch.bfloat16)
        y = half(*given, fps=24)
    assert half.dtype == y.dtype == torch.bfloat16
    assert all(torch.equal(half.state_dict()[name], value) for name, value in exact.items())
    assert all(half.state_dict()[name].dtype == value.dtype for name, value in exact.items())
    assert (y.float() - expected).norm() < 0.02 * expected.norm()


@FORM
def test_weights_come_back_as_they_were_used(random_net: Callable, form: str) -> None:
    net, given = random_net(VIDEO).to(torch.bfloat16), inputs()
    names = list(net.state_dict())
    quantise(net, form)
    with torch.no_grad():
        expected = net(*given, fps=24)
        dequantise(net)
        assert torch.equal(net(*given, fps=24), expected)
    assert list(net.state_dict()) == names
    assert all(value.requires_grad for value in net.parameters())
    assert not any(part.training for part in net.modules())  # as before


@FORM
def test_gradients_pass_through_to_what_is_trained_beside(form: str) -> None:
    net = nn.Sequential(Linear(8, 8, bias=True))
    quantise(net, form)
    x = torch.randn(3, 8, requires_grad=True)
    net(x).sum().backward()
    layer = net[0]
    assert isinstance(layer, QuantisedLinear)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, -1))
    assert layer.codes.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is not None


@FORM
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pieces_of_a_weight_make_the_whole(form: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = QuantisedLinear(Linear(37, 29).to(dtype), form)
    codes = layer.codes if form == "int8" else layer.codes.view(torch.float8_e4m3fn)
    expected = (codes.float() * layer.scale[:, None]).to(dtype)
    for at_once in (1, 100, 1 << 20):
        monkeypatch.setattr(quantised, "_AT_ONCE", at_once)
        assert torch.equal(quantised.dequantised(layer.codes, layer.scale, dtype), expected)


def test_a_weight_is_made_where_something_computes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, made = QuantisedLinear(Linear(7, 5).to(torch.bfloat16), "int8"), []
    exact, make = quantised.dequantised(layer.codes, layer.scale, layer.dtype), quantised.dequantised
    monkeypatch.setattr(quantised, "dequantised", lambda *given: made.append(0) or make(*given))
    weight = layer.weight
    assert isinstance(weight, Tensor)
    assert (weight.dtype, weight.shape, weight.device) == (torch.bfloat16, (5, 7), torch.device("cpu"))
    assert not made
    assert torch.equal(weight, exact)
    assert torch.equal(torch.cat([weight, weight]).float(), torch.cat([exact, exact]).float())
    assert len(made) == 3
    layer(torch.randn(3, 7, dtype=torch.bfloat16))
    assert len(made) == 4


def test_linear_layers_of_any_network_are_brought_to_eight_bits() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.ReLU(), nn.Linear(6, 4, bias=False)), nn.LayerNorm(4))
    x = torch.randn(9, 4)
    expected = net(x)
    quantise(net, "int8")
    kinds = [type(part).__name__ for part in (net[0], net[1][1], net[2])]
    assert kinds == ["QuantisedLinear", "QuantisedLinear", "LayerNorm"]
    assert 0 < (net(x) - expected).norm() < 0.03 * expected.norm()


def test_zero_channels_stay_zero_and_a_broken_weight_is_named(random_net: Callable) -> None:
    layer = Linear(5, 4)
    layer.weight.data[2] = 0
    for form in FORMS:
        assert torch.equal(QuantisedLinear(layer, form).weight[2], torch.zeros(5))
    net = random_net(VIDEO)
    net.blocks[1].up.weight.data[3, 5] = float("nan")
    with pytest.raises(InputError, match="^blocks.1.up: a weight holds NaN"):
        quantise(net, "int8")
    with pytest.raises(InputError, match="no layers to bring to int8: skip is 0"):
        quantise(nn.Sequential(Linear(4, 4)), "int8", skip=("0",))


def test_an_unknown_form_is_named() -> None:
    unchecked = getattr(quantise, "__wrapped__", quantise)
    with pytest.raises((InputError, TypeError), match="int4"):
        unchecked(nn.Sequential(Linear(4, 4)), "int4")
