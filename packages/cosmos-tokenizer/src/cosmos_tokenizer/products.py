"""The products that the network spends its time in, each in the fastest way that device, dtype and autograd allow.

Convolutions are 2-D over frames or matrix products over channels: the factorised (1, 3, 3) and (3, 1, 1) kernels of
arXiv 2501.03575, section 4.1, never need a 3-D convolution.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_tokenizer import winograd

Frames = Callable[[Tensor], Tensor]
"""Something done to ``N C H W`` frame by frame, whether they come together or one at a time."""


def conv2d(
    x_NCHW: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int = 1,
    padding: int = 0,
    before: Frames | None = None,
) -> Tensor:
    """2-D convolution of frames, after ``before``."""
    if before is not None and torch.is_grad_enabled():  # what it makes may have a gradient that the frames have not
        x_NCHW, before = before(x_NCHW), None
    fast = x_NCHW.dtype == torch.float32 or x_NCHW.dtype in emulated(x_NCHW.device.type)
    fast = fast and stride == 1 and not _needs_plain(x_NCHW, weight, bias)
    if fast and bias is not None and winograd.pays(x_NCHW, weight):
        return winograd.conv2d(x_NCHW, weight, bias, padding, before)
    x_NCHW = x_NCHW if before is None else before(x_NCHW)
    x, weight, bias = _for_products(x_NCHW, weight, bias)
    return F.conv2d(x, weight, bias, stride=stride, padding=padding).to(x_NCHW.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Product over the last axis."""
    wide, weight, bias = _for_products(x, weight, bias)
    return F.linear(wide, weight, bias).to(x.dtype)


def causal_conv(
    x_BTHWC: Tensor, past_BTHWC: Tensor | None, weight_DCK: Tensor, bias_D: Tensor, *, stride: int = 1
) -> Tensor:
    """Convolution over K frames of which the last is the present one.

    Args:
        x_BTHWC: frames.
        past_BTHWC: the ``K - stride`` frames before them; None at the start of a clip, where K - 1 copies of the first
            frame stand.
        weight_DCK, bias_D: kernel.
        stride: every ``stride``-th output is kept, the first of them at the first frame (start) or the second (else).

    Returns:
        ``B T' H W D``.
    """
    x, weight, bias = _for_products(x_BTHWC, weight_DCK, bias_D)
    past = None if past_BTHWC is None else past_BTHWC.to(x.dtype)
    if stride == 1 and not _needs_plain(x, past, weight, bias):
        return _causal_conv_in_place(x, past, weight.unbind(2), bias).to(x_BTHWC.dtype)
    taps = weight.shape[2]
    before = x[:, :1].expand(-1, taps - 1, -1, -1, -1) if past is None else past
    padded = torch.cat([before, x], dim=1)
    frames = padded.shape[1] - taps + 1
    y = F.linear(padded[:, taps - 1 :: stride], weight[:, :, -1], bias)
    for tap in reversed(range(taps - 1)):
        y = y + F.linear(padded[:, tap : tap + frames : stride], weight[:, :, tap])
    return y.to(x_BTHWC.dtype)


def _causal_conv_in_place(x: Tensor, past: Tensor | None, taps: tuple[Tensor, ...], bias: Tensor) -> Tensor:
    """No padded copy and no sums apart from the products: each tap is added onto the frames that it reaches."""
    by_age = [tap.contiguous() for tap in reversed(taps)]
    if past is not None:
        y = x.new_empty(*x.shape[:-1], len(bias))
        y.copy_(bias.expand_as(y))
        _add_product(y, x, by_age[0])
        for age, tap in list(enumerate(by_age))[1:]:
            _add_product(y[:, age:], x[:, :-age], tap)
            _add_product(y[:, :age], past[:, past.shape[1] - age :][:, : x.shape[1]], tap)
        return y
    # All taps that reach before the start meet copies of the first frame, so their sum is one product.
    y = x.new_empty(*x.shape[:-1], len(bias))
    y.copy_(bias.expand_as(y))
    onto_first = list(by_age)
    for age in reversed(range(len(by_age) - 1)):
        onto_first[age] = onto_first[age] + onto_first[age + 1]
    for age, tap in enumerate(by_age):
        _add_product(y[:, age : age + 1], x[:, :1][:, : max(0, y.shape[1] - age)], onto_first[age])
        _add_product(y[:, age + 1 :], x[:, 1 : max(1, x.shape[1] - age)], tap)
    return y


def _add_product(y_BTHWD: Tensor, x_BTHWC: Tensor, weight_DC: Tensor) -> None:
    if not x_BTHWC.shape[1]:
        return
    for y_THWD, x_THWC in zip(y_BTHWD, x_BTHWC, strict=True):
        y_THWD.flatten(0, -2).addmm_(x_THWC.flatten(0, -2), weight_DC.T)


def _needs_plain(x: Tensor, *others: Tensor | None) -> bool:
    """Whether operations must be torch's own and not in place.

    So it is where autograd or a compiler records them, and under autocast, by which a caller asks for products in its
    dtype: it gives them that, but not those that are told where to write.
    """
    learns = torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in (x, *others))
    return learns or torch.compiler.is_compiling() or _autocasts(x.device.type)


def _autocasts(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _for_products(x: Tensor, *weights: Tensor | None) -> tuple[Tensor, ...]:
    """Operands in the dtype that this device multiplies fast; a compiled graph may run elsewhere and keeps its own."""
    slow = not torch.compiler.is_compiling() and x.dtype in emulated(x.device.type)
    kind = torch.float32 if slow else x.dtype
    return tuple(value if value is None else value.to(kind) for value in (x, *weights))  # type: ignore[misc]


@functools.cache
def emulated(device: str) -> tuple[torch.dtype, ...]:
    """dtypes that this device multiplies slower than float32, for want of instructions."""
    if device != "cpu":
        return ()
    can = torch.cpu.get_capabilities()
    half = can.get("avx512_fp16") or can.get("amx_fp16")
    brain = can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16")
    return (*(() if half else (torch.float16,)), *(() if brain else (torch.bfloat16,)))
