"""Group norm and SiLU in plain torch: the definition that the kernels of ``frame_norm_triton`` are tested against.

Runs on every device, in every float dtype and memory order, and has gradients.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def norm_silu(
    x_NCHW: Float[Tensor, "N C H W"],
    weight_C: Float[Tensor, " C"],
    bias_C: Float[Tensor, " C"],
    *,
    groups: int,
    eps: float,
    silu: bool,
) -> Float[Tensor, "N C H W"]:
    """See :func:`cosmos_tokenizer.frame_norm.norm_silu`; SiLU is done in place unless autograd records."""
    y = F.group_norm(x_NCHW, groups, weight_C, bias_C, eps)
    return F.silu(y, inplace=not y.requires_grad) if silu else y
