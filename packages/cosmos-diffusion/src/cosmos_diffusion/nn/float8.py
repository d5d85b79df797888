"""Products in float8 with one scale a tensor (arXiv 2209.05433) by torch's scaled matrix product, forward and back."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
_UNIT = 16
_CAPABILITY = (8, 9)


def to_float8(x: Float[Tensor, "*B"], dtype: torch.dtype) -> tuple[Tensor, Float[Tensor, ""]]:
    """Eight-bit values and the scale in float32 that gives ``x`` back, a power of two.

    Being one, it divides without rounding in any dtype: what is lost is lost to the eight bits alone.
    """
    largest = torch.linalg.vector_norm(x, float("inf"), dtype=torch.float32)
    least = torch.finfo(torch.float32).smallest_normal
    scale = torch.exp2(torch.ceil(torch.log2((largest / torch.finfo(dtype).max).clamp(min=least))))
    wide = x.float() if x.dtype == torch.float16 else x  # half precision has no exponents for small scales
    return (wide / scale).to(dtype), scale


def float8_product(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``x W^T + b``; the forward and backward semantics of ``use_float8``."""
    y_LO = _Float8Product.apply(x.reshape(-1, x.shape[-1]), weight_OI)
    assert isinstance(y_LO, Tensor)
    y = y_LO.unflatten(0, x.shape[:-1])
    return y if bias_O is None else y + bias_O


def bfloat16_product(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``x W^T + b`` in bfloat16, and its gradients too; the dtype of ``x`` comes back."""
    low = torch.bfloat16
    return F.linear(x.to(low), weight_OI.to(low), None if bias_O is None else bias_O.to(low)).to(x.dtype)


def refusal(device: torch.device) -> str | None:
    """Why torch's products in eight bits do not run on a device, in one line; None where they do."""
    if device.type == "cpu":
        return None
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _CAPABILITY:
        return None
    return f"backend 'torch' needs a GPU of compute capability 8.9 (Ada, Hopper) and up, not {device}: use 'bf16'"


class _Float8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_LI: Tensor, weight_OI: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        x8_LI, x_scale = to_float8(x_LI, FORWARD)
        ctx.save_for_backward(x8_LI, x_scale, weight_OI)
        ctx.dtype = x_LI.dtype
        weight8_OI, weight_scale = to_float8(weight_OI, FORWARD)
        return _product(x8_LI, x_scale, weight8_OI, weight_scale, x_LI.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        x8_LI, x_scale, weight_OI = ctx.saved_tensors
        grad8_LO, grad_scale = to_float8(grads[0], BACKWARD)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            weight8_OI, weight_scale = to_float8(weight_OI, FORWARD)  # anew: kept, it would be a byte a weight
            grad_x = _product(grad8_LO, grad_scale, weight8_OI.t().contiguous(), weight_scale, ctx.dtype)
        if ctx.needs_input_grad[1]:
            grad8_OL, x8_IL = (_whole_units(value.t()).contiguous() for value in (grad8_LO, x8_LI))
            grad_weight = _product(grad8_OL, grad_scale, x8_IL, x_scale, weight_OI.dtype)
        return grad_x, grad_weight


def _product(
    a_MK: Tensor, a_scale: Tensor, b_NK: Tensor, b_scale: Tensor, dtype: torch.dtype, *, fast: bool = False
) -> Tensor:
    """``a b^T``; ``fast`` lets Hopper's tensor cores sum in fewer bits than float32 has."""
    kind = F.ScalingType.TensorWise
    return F.scaled_mm(a_MK, b_NK.t(), a_scale, kind, b_scale, kind, output_dtype=dtype, use_fast_accum=fast)


def _whole_units(x8_ML: Tensor) -> Tensor:
    """Zeros behind, so that the summed axis of a product is as long as the tensor cores want it."""
    missing = -x8_ML.shape[1] % _UNIT
    if not missing:
        return x8_ML
    return F.pad(x8_ML.view(torch.uint8), (0, missing)).view(x8_ML.dtype)
