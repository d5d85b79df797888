"""Group norm of single frames with SiLU behind it (Wu and He, arXiv 1803.08494), as in arXiv 2501.03575, section 4.1.

``frame_norm_reference`` is the definition; ``frame_norm_triton`` works on frames as they lie, channels last, where
torch's own CUDA kernel copies them to another order and back.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import frame_norm_reference
from cosmos_tokenizer.backend import Backend, use_triton


def norm_silu(
    x_NCHW: Float[Tensor, "N C H W"],
    weight_C: Float[Tensor, " C"],
    bias_C: Float[Tensor, " C"],
    *,
    groups: int,
    eps: float,
    silu: bool,
    backend: Backend = "auto",
) -> Float[Tensor, "N C H W"]:
    """Each frame less its mean, over its standard deviation, times weight, plus bias, then SiLU if asked for.

    Statistics run in float32 at least. The kernel takes channels-last frames of one group, gives them back channels
    last, and knows no gradient: a frame of several groups or in another order, and all that autograd records, go to the
    reference, whichever backend is named. So does a graph that is being exported, which must run without this package.

    Args:
        x_NCHW: frames.
        weight_C, bias_C: applied to each channel after the norm.
        groups: runs of channels that are normed apart; divides C.
        eps: added to the variance.
        silu: whether SiLU follows.
        backend: see :func:`cosmos_tokenizer.backend.use_triton`.

    Raises:
        InputError: the named backend cannot run here.
    """
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in (x_NCHW, weight_C, bias_C))
    fits = groups == 1 and x_NCHW.is_contiguous(memory_format=torch.channels_last)
    if use_triton(backend, x_NCHW) and fits and not recorded and not torch.compiler.is_exporting():
        from cosmos_tokenizer import frame_norm_triton

        return frame_norm_triton.norm_silu(x_NCHW, weight_C, bias_C, eps=eps, silu=silu)
    return frame_norm_reference.norm_silu(x_NCHW, weight_C, bias_C, groups=groups, eps=eps, silu=silu)
