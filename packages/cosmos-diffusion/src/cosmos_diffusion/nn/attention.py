"""Attention by the implementation that the caller names: torch's own, flash-attn, Transformer Engine or flex."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.nn.extras import installed
from cosmos_tokenizer import InputError

Backend = Literal["sdpa", "flash", "te", "flex"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Attend = Callable[..., Float[Tensor, "B L N H"]]
"""A function of queries, keys, values and ``backend``, as :func:`attention`; keys may be elsewhere too."""


def attention(
    q_BLNH: Float[Tensor, "B L N H"],
    k_BSMH: Float[Tensor, "B S M H"],
    v_BSMH: Float[Tensor, "B S M H"],
    *,
    causal: bool = False,
    bias_S: Float[Tensor, " S"] | None = None,
    backend: Backend = "sdpa",
) -> Float[Tensor, "B L N H"]:
    """``softmax(q k^T / sqrt(H) + bias) v`` for each head; of ``M`` key heads each serves ``N / M`` query heads.

    Args:
        q_BLNH: queries.
        k_BSMH: keys.
        v_BSMH: values.
        causal: query ``i`` sees keys up to ``i + S - L``, as when the last ``L`` of ``S`` positions ask.
        bias_S: added to what every query scores at a key, in the dtype of the queries; ``log(n)`` makes a key count
            ``n`` times. Without ``causal``, and of "sdpa" alone.
        backend: "sdpa", torch's choice of kernel on any device; "flash" (flash-attn, half precision on CUDA); "te"
            (Transformer Engine, CUDA); "flex" (torch's flex attention).

    Raises:
        InputError: the backend is unknown, not installed, or does not take these tensors.
    """
    if backend not in BACKENDS:
        raise InputError(f"attention backend is {backend!r}: use {', '.join(BACKENDS)}")
    if q_BLNH.shape[2] % k_BSMH.shape[2]:
        raise InputError(f"{q_BLNH.shape[2]} query heads on {k_BSMH.shape[2]} key heads: the first must be a multiple")
    if bias_S is None:
        return _RUN[backend](q_BLNH, k_BSMH, v_BSMH, causal)
    if backend != "sdpa" or causal:
        raise InputError(f"attention with a bias, backend {backend!r}, causal {causal}: only 'sdpa' has it, not causal")
    return _sdpa(q_BLNH, k_BSMH, v_BSMH, causal, bias_S)


def _sdpa(q_BLNH: Tensor, k_BSMH: Tensor, v_BSMH: Tensor, causal: bool, bias_S: Tensor | None = None) -> Tensor:
    if q_BLNH.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
        # torch's backward pass in bfloat16 takes three times as long there.
        with torch.autocast("cpu", enabled=False):
            return _sdpa(q_BLNH.float(), k_BSMH.float(), v_BSMH.float(), causal, bias_S)
    q, k, v = (x.transpose(1, 2) for x in (q_BLNH, k_BSMH, v_BSMH))
    mask = None if bias_S is None else bias_S[None, None, None]
    if causal and q.shape[2] != k.shape[2]:  # torch's own mask lets the first query see the first key alone
        rows, columns = q.shape[2], k.shape[2]
        mask = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril(columns - rows)
    grouped = q.shape[1] != k.shape[1]
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=grouped)
    return o.transpose(1, 2)


def _flex(q_BLNH: Tensor, k_BSMH: Tensor, v_BSMH: Tensor, causal: bool) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = (x.transpose(1, 2) for x in (q_BLNH, k_BSMH, v_BSMH))
    rows, columns = q.shape[2], k.shape[2]
    mask = None
    if causal:
        ahead = columns - rows
        # torch counts the arguments of what it is given, and a checked function has others.
        mask = create_block_mask(lambda b, h, i, j: j <= i + ahead, None, None, rows, columns, device=q.device.type)
    o = flex_attention(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    assert isinstance(o, Tensor)
    return o.transpose(1, 2)


def _flash(q_BLNH: Tensor, k_BSMH: Tensor, v_BSMH: Tensor, causal: bool) -> Tensor:
    flash = installed("flash_attn", "flash")
    if not q_BLNH.is_cuda or q_BLNH.dtype not in (torch.float16, torch.bfloat16):
        raise InputError(
            f"backend 'flash' takes half precision on CUDA, not {q_BLNH.dtype} on {q_BLNH.device}: use 'sdpa'"
        )
    return flash.flash_attn_func(q_BLNH, k_BSMH, v_BSMH, causal=causal)


def _te(q_BLNH: Tensor, k_BSMH: Tensor, v_BSMH: Tensor, causal: bool) -> Tensor:
    installed("transformer_engine.pytorch", "te")
    if not q_BLNH.is_cuda:
        raise InputError(f"backend 'te' runs on CUDA, not on {q_BLNH.device}: use 'sdpa'")
    layer = _te_layer(q_BLNH.shape[2], k_BSMH.shape[2], q_BLNH.shape[3])
    # The mask whose diagonal ends in the last corner, as this function promises for fewer queries than keys.
    o = layer(q_BLNH, k_BSMH, v_BSMH, attn_mask_type="causal_bottom_right" if causal else "no_mask")
    return rearrange(o, "b l (n h) -> b l n h", n=q_BLNH.shape[2])


@cache
def _te_layer(heads: int, groups: int, width: int) -> Any:  # noqa: ANN401 - of a package that may be absent
    engine = installed("transformer_engine.pytorch", "te")
    return engine.DotProductAttention(heads, width, num_gqa_groups=groups, qkv_format="bshd", attention_dropout=0.0)


_RUN = {"sdpa": _sdpa, "flex": _flex, "flash": _flash, "te": _te}
