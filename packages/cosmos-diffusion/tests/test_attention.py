"""Attention: every backend against the formula in float64, with grouped heads and with fewer queries than keys."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS
from cosmos_diffusion.block import Attention
from cosmos_diffusion.nn import BACKENDS, attention
from cosmos_diffusion.nn.extras import installed
from cosmos_tokenizer import InputError

# Uncompiled, it is the formula that this checks, and torch says that it is slow.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
SHAPES = pytest.mark.parametrize(
    ("rows", "columns", "heads", "groups"), [(7, 7, 4, 4), (5, 11, 6, 2), (1, 9, 4, 1), (13, 13, 3, 3)]
)
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])


def absent(module: str, extra: str) -> bool:
    try:
        installed(module, extra)
    except InputError:
        return True
    return not torch.cuda.is_available()


def tensors(rows: int, columns: int, heads: int, groups: int, width: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(2, rows, heads, width)
    return q, torch.randn(2, columns, groups, width), torch.randn(2, columns, groups, width)


def formula(q_BLNH: Tensor, k_BSMH: Tensor, v_BSMH: Tensor, causal: bool) -> Tensor:
    """Written out head by head and query by query, in float64."""
    o = torch.empty(q_BLNH.shape, dtype=torch.float64)
    rows, columns = q_BLNH.shape[1], k_BSMH.shape[1]
    each = q_BLNH.shape[2] // k_BSMH.shape[2]
    for head in range(q_BLNH.shape[2]):
        q, k, v = (x.double() for x in (q_BLNH[:, :, head], k_BSMH[:, :, head // each], v_BSMH[:, :, head // each]))
        for row in range(rows):
            seen = row + columns - rows + 1 if causal else columns
            logits = (k[:, :seen] @ q[:, row, :, None])[..., 0] / math.sqrt(q.shape[-1])
            o[:, row, head] = (logits.softmax(-1)[..., None] * v[:, :seen]).sum(1)
    return o


@SHAPES
def test_a_bias_of_the_logarithm_counts_keys_several_times(rows: int, columns: int, heads: int, groups: int) -> None:
    q, k, v = tensors(rows, columns, heads, groups)
    counts = torch.arange(columns) % 4 + 1
    again_k, again_v = (x.repeat_interleave(counts, dim=1) for x in (k, v))
    found = attention(q, k, v, bias_S=counts.float().log())
    torch.testing.assert_close(found, attention(q, again_k, again_v), atol=1e-5, rtol=1e-5)
    for wrong in ({"backend": "flex"}, {"causal": True}):
        with pytest.raises(InputError, match="attention with a bias"):
            attention(q, k, v, bias_S=counts.float().log(), **wrong)


@SHAPES
@CAUSAL
@pytest.mark.parametrize("backend", ["sdpa", "flex"])
def test_torch_backends_are_the_formula(
    rows: int, columns: int, heads: int, groups: int, causal: bool, backend: str
) -> None:
    q, k, v = tensors(rows, columns, heads, groups)
    o = attention(q, k, v, causal=causal, backend=backend)
    torch.testing.assert_close(o.double(), formula(q, k, v, causal), atol=2e-6, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, and flex has no backward pass on a CPU")
@CAUSAL
def test_gradients_of_flex_are_those_of_sdpa(causal: bool) -> None:
    given = [value.cuda() for value in tensors(8, 8, 4, 4)]
    grads = []
    for backend in ("sdpa", "flex"):
        leaves = [value.clone().requires_grad_() for value in given]
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            attention(*leaves, causal=causal, backend=backend).square().sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("backend", "module"), [("flash", "flash_attn"), ("te", "transformer_engine.pytorch")])
def test_an_absent_package_names_its_extra(backend: str, module: str) -> None:
    if not absent(module, backend):
        pytest.skip(f"{module} is installed")
    message = rf'^backend \'{backend}\' needs .*"cosmos-diffusion\[{backend}\]"[^\n]*$'
    with pytest.raises(InputError, match=message):
        attention(*tensors(3, 3, 2, 2), backend=backend)


@pytest.mark.parametrize("backend", ["flash", "te"])
def test_a_backend_for_gpus_refuses_other_tensors(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["cosmos_diffusion.nn.attention"]  # by its name: the package's attribute is the function
    monkeypatch.setattr(module, "installed", lambda module, extra: object())
    with pytest.raises(InputError, match=f"'{backend}' .* on .*cpu: use 'sdpa'"):
        attention(*tensors(3, 3, 2, 2), backend=backend)


def test_heads_that_do_not_divide_and_unknown_backends_are_named() -> None:
    with pytest.raises(InputError, match="5 query heads on 2 key heads"):
        attention(*tensors(3, 3, 5, 2))
    unchecked = getattr(attention, "__wrapped__", attention)
    with pytest.raises((InputError, TypeError), match="xformers"):
        unchecked(*tensors(3, 3, 2, 2), backend="xformers")


@torch.no_grad()
def test_a_network_runs_on_the_backend_it_is_given(random_net: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_net(replace(PRESETS["toy"], width=64))  # flex wants heads of a power of two
    given = torch.randn(1, 16, 2, 4, 6), torch.randn(1), torch.randn(1, 9, 32)
    expected = net(*given, fps=24)
    monkeypatch.setattr(Attention, "backend", "flex")
    torch.testing.assert_close(net(*given, fps=24), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@SHAPES
@CAUSAL
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(
            backend,
            marks=pytest.mark.skipif(
                not torch.cuda.is_available() if module is None else absent(module, backend),
                reason=f"no CUDA device, or no {module or 'torch'} for backend {backend!r}",
            ),
        )
        for backend, module in zip(
            ("sdpa", "flex", "flash", "te"), (None, None, "flash_attn", "transformer_engine.pytorch"), strict=True
        )
    ],
)
def test_every_backend_is_the_formula_on_a_gpu(
    rows: int, columns: int, heads: int, groups: int, causal: bool, backend: str
) -> None:
    assert backend in BACKENDS
    q, k, v = (value.to(torch.bfloat16) for value in tensors(rows, columns, heads, groups, 64))
    o = attention(q.cuda(), k.cuda(), v.cuda(), causal=causal, backend=backend)
    torch.testing.assert_close(o.cpu().double(), formula(q, k, v, causal), atol=2e-2, rtol=2e-2)


def test_training_at_half_precision_on_a_cpu_attends_in_float32() -> None:
    leaves = [x.bfloat16().requires_grad_() for x in tensors(7, 9, 4, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        attention(*leaves).float().square().sum().backward()
    fine = [x.detach().float().requires_grad_() for x in leaves]
    attention(*fine).square().sum().backward()
    for low, high in zip(leaves, fine, strict=True):
        assert torch.equal(low.grad, high.grad.bfloat16())
