"""Attention to some of the keys, and how such parts make the whole (arXiv 2205.14135, section 3.1; 2310.01889).

What queries find among some keys is a mean under a softmax; its logarithm of the sum of exponentials says how much that
mean weighs beside others. The gradients of a part follow from the whole's outcome and the whole's logarithm.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

aten = torch.ops.aten


class Found(NamedTuple):
    """What queries find among some of the keys, and the logarithm of the sum of exponentials of their scores."""

    o_BNLH: Float[Tensor, "B N L H"]
    lse_BNL: Float[Tensor, "B N L"]


def attend_to_part(
    q_BNLH: Float[Tensor, "B N L H"], k_BNSH: Float[Tensor, "B N S H"], v_BNSH: Float[Tensor, "B N S H"]
) -> Found:
    """``softmax(q k^T / sqrt(H)) v`` among these keys alone, by torch's flash kernel where it takes the tensors.

    Without gradients of its own: see :func:`gradients_of_part`.
    """
    kernel = _kernel(q_BNLH)
    if kernel is None:
        scores = _scores(q_BNLH, k_BNSH)
        return Found((scores.softmax(-1) @ v_BNSH.to(scores.dtype)).to(q_BNLH.dtype), scores.logsumexp(-1))
    o, lse = kernel[0](q_BNLH, k_BNSH, v_BNSH)[:2]
    return Found(o, lse)


def merged(one: Found, other: Found) -> Found:
    """What the same queries find among the keys of both, in the dtype of the logarithms."""
    weight = torch.sigmoid(other.lse_BNL - one.lse_BNL)[..., None]
    o = torch.lerp(one.o_BNLH.to(weight.dtype), other.o_BNLH.to(weight.dtype), weight)
    return Found(o, torch.logaddexp(one.lse_BNL, other.lse_BNL))


def gradients_of_part(
    g_BNLH: Float[Tensor, "B N L H"],
    q_BNLH: Float[Tensor, "B N L H"],
    k_BNSH: Float[Tensor, "B N S H"],
    v_BNSH: Float[Tensor, "B N S H"],
    whole: Found,
) -> tuple[Float[Tensor, "B N L H"], Float[Tensor, "B N S H"], Float[Tensor, "B N S H"]]:
    """What these keys and values add to the gradient of the queries, and their own gradients.

    Args:
        g_BNLH: gradient of the whole's outcome.
        q_BNLH: queries.
        k_BNSH: keys of a part.
        v_BNSH: values of a part.
        whole: what the queries found among the keys of all parts.
    """
    kernel = _kernel(q_BNLH)
    if kernel is not None:
        return kernel[1](g_BNLH, q_BNLH, k_BNSH, v_BNSH, *whole)
    p = (_scores(q_BNLH, k_BNSH) - whole.lse_BNL[..., None]).exp()
    g, v = g_BNLH.to(p.dtype), v_BNSH.to(p.dtype)
    ds = p * (g @ v.mT - (g * whole.o_BNLH).sum(-1, keepdim=True)) * q_BNLH.shape[-1] ** -0.5
    gradients = ds @ k_BNSH.to(p.dtype), ds.mT @ q_BNLH.to(p.dtype), p.mT @ g
    dq, dk, dv = (gradient.to(q_BNLH.dtype) for gradient in gradients)
    return dq, dk, dv


def _scores(q_BNLH: Tensor, k_BNSH: Tensor) -> Tensor:
    dtype = torch.promote_types(q_BNLH.dtype, torch.float32)
    return q_BNLH.to(dtype) @ k_BNSH.to(dtype).mT * q_BNLH.shape[-1] ** -0.5


def _kernel(q_BNLH: Tensor) -> tuple[Any, Any] | None:
    """Forward and backward of a fused kernel for tensors like this one, or None."""
    if q_BNLH.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu, _backward_on_cpu
    width, half = q_BNLH.shape[-1], q_BNLH.dtype in (torch.float16, torch.bfloat16)
    if q_BNLH.is_cuda and half and width % 8 == 0 and width <= 256:
        return aten._scaled_dot_product_flash_attention, _backward_on_cuda
    return None


def _backward_on_cpu(g: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
    return aten._scaled_dot_product_flash_attention_for_cpu_backward(g, q, k, v, o.to(q.dtype), lse, 0.0, False)


def _backward_on_cuda(g: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
    state = torch.empty(2, dtype=torch.uint64, device=q.device)  # of the random numbers, which no dropout asks for
    sizes = q.shape[2], k.shape[2]
    backward = aten._scaled_dot_product_flash_attention_backward
    return backward(g, q, k, v, o.to(q.dtype), lse, None, None, *sizes, 0.0, False, state, state)
