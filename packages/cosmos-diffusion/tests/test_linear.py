"""Linear layers in eight bits: errors within what the formats allow, forward and back, and the refusals."""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS
from cosmos_diffusion.nn.extras import installed
from cosmos_diffusion.nn.float8 import BACKWARD, FORWARD, float8_product, to_float8
from cosmos_diffusion.nn.linear import Linear, use_float8, use_full_precision
from cosmos_tokenizer import InputError

WIDE = Linear(48, 32, bias=True)
ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9),
        reason="no CUDA device of compute capability 8.9",
    ),
]
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])


def relative(value: Tensor, expected: Tensor) -> float:
    return ((value.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("eight", "bits"), [(FORWARD, 3), (BACKWARD, 2)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 3e4])
def test_eight_bits_lose_half_a_unit_of_their_mantissa(
    dtype: torch.dtype, eight: torch.dtype, bits: int, size: float
) -> None:
    x = (torch.randn(37, 19) * size / 6).to(dtype)
    values, scale = to_float8(x, eight)
    assert torch.log2(scale) == torch.log2(scale).round()
    back = values.float() * scale
    normal = x.float().abs() >= torch.finfo(eight).smallest_normal * scale
    assert ((back - x.float()).abs() <= x.float().abs() * 2.0 ** -(bits + 1))[normal].all()
    assert ((back - x.float()).abs() <= torch.finfo(eight).smallest_normal * scale * 2.0 ** -(bits + 1) * 1.001)[
        ~normal
    ].all()
    assert values.float().abs().max() > torch.finfo(eight).max / 2.3


def test_zeros_and_what_is_not_finite_come_through() -> None:
    values, scale = to_float8(torch.zeros(3, 4), FORWARD)
    assert torch.equal(values.float() * scale, torch.zeros(3, 4))
    y = float8_product(torch.tensor([[float("nan")] + [1.0] * 15]), torch.ones(16, 16), None)
    assert y.isnan().all()


@DEVICES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_the_eight_bit_values(dtype: torch.dtype, device: str) -> None:
    x, weight = torch.randn(2, 5, 48, device=device).to(dtype), torch.randn(32, 48, device=device).to(dtype)
    (x8, x_scale), (weight8, weight_scale) = to_float8(x, FORWARD), to_float8(weight, FORWARD)
    expected = (x8.double() * x_scale) @ (weight8.double() * weight_scale).mT
    y = float8_product(x, weight, None)
    assert y.dtype == dtype
    assert y.shape == (2, 5, 32)
    assert relative(y, expected) < (1e-3 if device == "cuda" else 1e-6) + torch.finfo(dtype).eps


@DEVICES
def test_gradients_are_products_of_the_eight_bit_values(device: str) -> None:
    x = torch.randn(3, 7, 48, device=device, requires_grad=True)
    weight = torch.randn(32, 48, device=device, requires_grad=True)
    bias = torch.randn(32, device=device, requires_grad=True)
    grad = torch.randn(3, 7, 32, device=device)
    float8_product(x, weight, bias).backward(grad)
    x8, weight8, grad8 = (
        values.double() * scale
        for values, scale in (
            to_float8(x.detach(), FORWARD),
            to_float8(weight.detach(), FORWARD),
            to_float8(grad, BACKWARD),
        )
    )
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    assert relative(x.grad, grad8 @ weight8) < 1e-5
    assert relative(weight.grad, grad8.flatten(0, 1).mT @ x8.flatten(0, 1)) < 1e-5
    torch.testing.assert_close(bias.grad, grad.sum((0, 1)))
    assert 0.005 < relative(x.grad, grad.double() @ weight.double()) < 0.1


@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_one_gradient_alone_is_worked_out(wanted: str) -> None:
    given = {"x": torch.randn(5, 16), "weight": torch.randn(32, 16)}
    given[wanted].requires_grad_()
    float8_product(given["x"], given["weight"], None).sum().backward()
    assert all((value.grad is not None) == (name == wanted) for name, value in given.items())


@DEVICES
@pytest.mark.parametrize(("backend", "error"), [("torch", 0.12), ("bf16", 0.02)])
def test_a_network_in_eight_bits_is_near_and_full_precision_comes_back(
    random_net: Callable, backend: str, error: float, device: str
) -> None:
    net = random_net(PRESETS["toy-video"]).to(device)
    given = torch.randn(2, 16, 3, 4, 6), torch.randn(2), torch.randn(2, 9, 32)
    with torch.no_grad():
        expected = net(*(value.to(device) for value in given), fps=24)
        assert use_float8(net, backend=backend) == backend
        y = net(*(value.to(device) for value in given), fps=24)
        assert error / 50 < relative(y, expected) < error
        use_full_precision(net)
        assert torch.equal(net(*(value.to(device) for value in given), fps=24), expected)


def test_layers_that_do_not_fit_or_are_skipped_stay_exact(random_net: Callable) -> None:
    net = random_net(PRESETS["toy"])
    use_float8(net, backend="torch", skip=("cross_attention", "noise"))
    changed = {name for name, part in net.named_modules() if isinstance(part, Linear) and part.product is not None}
    layers = ("self_attention.q", "self_attention.k", "self_attention.v", "self_attention.out", "up", "down")
    assert changed == {"last"} | {f"blocks.{index}.{layer}" for index in range(2) for layer in layers}


def test_an_update_of_the_weights_is_seen() -> None:
    layer = Linear(16, 32)
    use_float8(layer, backend="torch")
    x = torch.randn(4, 16)
    with torch.no_grad():
        before = layer(x)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)


def test_training_in_eight_bits_learns() -> None:
    layer, x, target = Linear(16, 16), torch.randn(64, 16), torch.randn(16, 16)
    use_float8(layer, backend="torch")
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(100):
        loss = (layer(x) - x @ target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, where this choice is another")
def test_automatic_is_torch_on_this_machine() -> None:
    assert use_float8(Linear(16, 16)) == "torch"


def test_a_device_without_eight_bits_gets_bfloat16() -> None:
    with torch.device("meta"):
        layer = Linear(16, 16)
    assert use_float8(layer) == "bf16"
    with pytest.raises(InputError, match="compute capability 8.9 .* not meta: use 'bf16'"):
        use_float8(layer, backend="torch")


def absent(name: str) -> bool:
    try:
        installed(name, "te")
    except InputError:
        return True
    return False


@pytest.mark.skipif(not absent("transformer_engine.pytorch"), reason="Transformer Engine is installed")
def test_an_absent_engine_names_its_extra() -> None:
    layer = Linear(16, 16)
    with pytest.raises(InputError, match=r'^backend \'te\' needs .*"cosmos-diffusion\[te\]"[^\n]*$'):
        use_float8(layer, backend="te")
    assert layer.product is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"backend": "fp8"}, "float8 backend is 'fp8': use auto, te, torch, bf16"),
        ({"scaling": "block"}, "scaling is 'block': use current or delayed"),
        ({"backend": "torch", "scaling": "delayed"}, "scaling 'delayed' is Transformer Engine's"),
        ({"skip": ("0",)}, "no layers to run in eight bits: skip is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict, says: str) -> None:
    with pytest.raises((InputError, TypeError), match=says):
        _use_unchecked(torch.nn.Sequential(Linear(16, 16)), **given)


def _use_unchecked(module: torch.nn.Module, **given: object) -> None:
    """Past the run-time type checker, which knows the words too: a command line has no such guard."""
    getattr(use_float8, "__wrapped__", use_float8)(module, **given)


class EngineLinear(torch.nn.Module):
    """Like Transformer Engine's: refuses odd row counts inside the autocast, and tells what it was run with."""

    calls: list[tuple[str | None, int]] = []  # noqa: RUF012
    recipe: str | None = None
    entered = 0

    def __init__(self, inputs: int, outputs: int, *, bias: bool, params_dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(outputs, inputs, dtype=params_dtype, device=device))
        self.bias = torch.nn.Parameter(torch.empty(outputs, dtype=params_dtype, device=device)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((EngineLinear.recipe, x.shape[0]))
        return torch.nn.functional.linear(x, self.weight, self.bias)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[EngineLinear]:
    """Return a stand-in for Transformer Engine's layer, as far as this package talks to it."""

    @contextmanager
    def autocast(*, enabled: bool, recipe: str):
        assert enabled
        EngineLinear.recipe = recipe
        EngineLinear.entered += 1
        try:
            yield
        finally:
            EngineLinear.recipe = None

    pytorch, recipes = ModuleType("transformer_engine.pytorch"), ModuleType("transformer_engine.common.recipe")
    pytorch.__dict__.update(Linear=EngineLinear, autocast=autocast, is_fp8_available=lambda return_reason: (True, ""))
    recipes.__dict__.update(
        Format=type("Format", (), {"HYBRID": "hybrid"}),
        Float8CurrentScaling=lambda fp8_format: f"current {fp8_format}",
        DelayedScaling=lambda fp8_format, amax_history_len, amax_compute_algo: f"delayed {fp8_format}",
    )
    for module in (ModuleType("transformer_engine"), ModuleType("transformer_engine.common"), pytorch, recipes):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    installed.cache_clear()
    EngineLinear.calls, EngineLinear.entered = [], 0
    monkeypatch.setattr("cosmos_diffusion.nn.linear._refusal", lambda backend, device: None)
    yield EngineLinear
    installed.cache_clear()


@pytest.mark.parametrize("scaling", ["current", "delayed"])
def test_the_engine_computes_with_our_weights_inside_one_autocast_a_forward(
    random_net: Callable, engine: type[EngineLinear], scaling: str
) -> None:
    net = random_net(PRESETS["toy"])
    names = set(net.state_dict())
    given = torch.randn(1, 16, 3, 2, 6), torch.randn(1), torch.randn(1, 9, 32)
    with torch.no_grad():
        expected = net(*given, fps=24)
        assert use_float8(net, backend="te", scaling=scaling) == "te"
        torch.testing.assert_close(net(*given, fps=24), expected)
        assert engine.entered == 1
        assert {recipe for recipe, _ in engine.calls} == {f"{scaling} hybrid"}
        assert all(rows % 16 == 0 for _, rows in engine.calls)
        assert set(net.state_dict()) == names
        with pytest.raises(InputError):
            net(given[0][:, :15], *given[1:], fps=24)
        assert engine.recipe is None
        net.blocks[0].up.weight.data = torch.zeros_like(net.blocks[0].up.weight)
        assert not torch.equal(net(*given, fps=24), expected)
        use_full_precision(net)
        engine.entered = 0
        net(*given, fps=24)
        assert engine.entered == 0


@pytest.mark.gpu
@pytest.mark.skipif(
    absent("transformer_engine.pytorch") or not torch.cuda.is_available(), reason="no Transformer Engine on CUDA"
)
@pytest.mark.parametrize("scaling", ["current", "delayed"])
def test_the_real_engine_is_near_the_full_precision(random_net: Callable, scaling: str) -> None:
    net = random_net(PRESETS["toy-video"]).to("cuda", torch.bfloat16)
    given = torch.randn(2, 16, 3, 4, 6).cuda(), torch.randn(2).cuda(), torch.randn(2, 9, 32).cuda()
    expected = net(*given, fps=24)
    use_float8(net, backend="te", scaling=scaling)
    for _ in range(3):  # delayed scales begin at one
        y = net(*given, fps=24)
        y.sum().backward()
    assert relative(y, expected) < 0.2
