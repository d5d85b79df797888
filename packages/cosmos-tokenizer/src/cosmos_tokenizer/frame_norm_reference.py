"""Group norm and SiLU in plain torch: the definition that the kernels of ``frame_norm_triton`` are tested against.

Runs on every device, in every float dtype and memory order, and has gradients.
"""

import torch
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
    if torch.is_grad_enabled() and not x_NCHW.requires_grad and (weight_C.requires_grad or bias_C.requires_grad):
        # torch's gradient of channels-last frames on CPU crashes where only those of weight and bias are asked for.
        y = torch.addcmul(bias_C[:, None, None], F.group_norm(x_NCHW, groups, eps=eps), weight_C[:, None, None])
    else:
        y = F.group_norm(x_NCHW, groups, weight_C, bias_C, eps)
    return F.silu(y, inplace=not y.requires_grad) if silu else y
