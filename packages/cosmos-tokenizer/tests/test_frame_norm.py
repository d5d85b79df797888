"""Norm and SiLU of frames: torch's own, in place only where nobody minds, and refused where a kernel cannot run."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_tokenizer import InputError
from cosmos_tokenizer.frame_norm import norm_silu
from cosmos_tokenizer.layers import FrameNorm


def given(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 5, 7, generator=generator).to(dtype, memory_format=torch.channels_last)
    return [x, *torch.randn(2, 6, generator=generator).to(dtype)]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("silu", [False, True])
def test_each_frame_and_group_has_its_own_mean_and_deviation(groups: int, silu: bool) -> None:
    x, weight, bias = given(torch.float64)
    y = norm_silu(x, weight, bias, groups=groups, eps=1e-6, silu=silu)
    parts = x.unflatten(1, (groups, -1))
    variance, mean = torch.var_mean(parts, dim=(2, 3, 4), correction=0, keepdim=True)
    expected = ((parts - mean) / (variance + 1e-6).sqrt()).flatten(1, 2) * weight[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(y, expected * torch.sigmoid(expected) if silu else expected)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_the_input_stays_and_gradients_are_those_of_the_formula() -> None:
    tensors = given(torch.float64)
    before = tensors[0].clone()
    norm_silu(*tensors, groups=1, eps=1e-6, silu=True)
    assert torch.equal(tensors[0], before)
    asking = [tensor.requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda *t: norm_silu(*t, groups=1, eps=1e-6, silu=True), asking, fast_mode=True)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("learnt", [(False, True), (True, False), (True, True)], ids=["bias", "weight", "both"])
def test_weight_and_bias_are_learnt_on_frames_that_have_no_gradient(groups: int, learnt: tuple[bool, bool]) -> None:
    x, *parameters = given(torch.float64)
    for parameter, wanted in zip(parameters, learnt, strict=True):
        parameter.requires_grad_(wanted)
    found = []
    for frames in (x, x.clone().requires_grad_()):
        norm_silu(frames, *parameters, groups=groups, eps=1e-6, silu=True).square().sum().backward()
        found.append([parameter.grad for parameter in parameters if parameter.requires_grad])
        for parameter in parameters:
            parameter.grad = None
    torch.testing.assert_close(*found)


def test_the_layer_norms_with_its_own_weights_groups_and_eps() -> None:
    x, weight, bias = given()
    layer = FrameNorm(2, 6)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
        expected = F.group_norm(x, 2, weight, bias, 1e-6)
        assert torch.equal(layer(x.unflatten(0, (1, 2))), expected.unflatten(0, (1, 2)))
        assert torch.equal(layer.silu(x), F.silu(expected))


def test_a_named_kernel_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(InputError, match="needs a CUDA tensor, and this one is on cpu"):
        norm_silu(*given(), groups=1, eps=1e-6, silu=True, backend="triton")
