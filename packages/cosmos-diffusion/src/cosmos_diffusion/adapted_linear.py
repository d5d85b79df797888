"""A linear layer with a low-rank addition (LoRA, arXiv 2106.09685, section 4.1), to train or to merge."""

import math
from collections.abc import MutableMapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cosmos_diffusion.quantised import QuantisedLinear
from cosmos_tokenizer import InputError


class AdaptedLinear(nn.Module):
    """``base(x) + alpha / rank (x A^T) B^T``, where ``B`` begins at zero, so that nothing changes at first.

    The base may multiply in eight bits, by :func:`~cosmos_diffusion.nn.use_float8` or with quantised weights, before or
    after it gets its addition, which is in the dtype of ``x``. ``state_dict`` has the base's tensors alone, under the
    names that they had before, and so ``load_state_dict`` takes.

    Args:
        base: a linear layer.
        rank: of the addition, from 1 up.
        alpha: over the rank, what the addition counts with.
    """

    def __init__(self, base: nn.Linear | QuantisedLinear, rank: int, alpha: int | float) -> None:
        super().__init__()
        self.base, self.rank, self.alpha = base, rank, alpha
        device = next(base.parameters()).device
        # In float32 whatever the base has: small steps are lost in less.
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=device, dtype=torch.float32))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self._original: Tensor | None = None
        self.train(base.training)
        self.register_state_dict_post_hook(_as_of_base)
        self.register_load_state_dict_pre_hook(_into_base)

    @property
    def merged(self) -> bool:
        """Whether the base's weight has the addition in it."""
        return self._original is not None

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """The product with the base's weight and with the addition, wherever that is."""
        y = self.base(x)
        if self.merged:
            return y
        low = F.linear(x, self.down.to(x.dtype)) * (self.alpha / self.rank)
        return y + F.linear(low, self.up.to(x.dtype))

    def check_mergeable(self) -> None:
        """Raise InputError where the base's weight cannot take the addition, or be without it again."""
        if not isinstance(self.base, nn.Linear):
            when = "while merged: it cannot be unmerged" if self.merged else "already: merge before"
            raise InputError(f"a layer was brought to eight bits {when}")
        if isinstance(self.base.weight, DTensor):
            raise InputError("weights are shared out to processes: merge before that, or in a network of whole weights")

    @torch.no_grad()
    def merge(self) -> None:
        """Put the addition into the base's weight, rounded once to its dtype; the one without it is kept.

        Raises:
            InputError: see :meth:`check_mergeable`.
        """
        self.check_mergeable()
        if self.merged:
            return
        weight = self.base.weight
        wide = torch.promote_types(weight.dtype, torch.float32)
        added_OI = self.up.to(wide) @ self.down.to(wide) * (self.alpha / self.rank)
        self._original = weight.data
        weight.data = (weight.to(wide) + added_OI).to(weight.dtype)

    def unmerge(self) -> None:
        """Let the base have the weight that it had, the same bits unless its dtype changed while it was merged.

        Raises:
            InputError: see :meth:`check_mergeable`.
        """
        self.check_mergeable()
        if self._original is not None:
            self.base.weight.data = self._original.to(self.base.weight)
            self._original = None

    def extra_repr(self) -> str:
        """What printing shows."""
        return f"rank={self.rank}, alpha={self.alpha}, merged={self.merged}"


_BASE = "base."


def _as_of_base(layer: nn.Module, state: MutableMapping[str, Tensor], prefix: str, metadata: object) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        value, inside = state.pop(name), name.removeprefix(prefix)
        if inside.startswith(_BASE):
            state[prefix + inside.removeprefix(_BASE)] = value


def _into_base(
    layer: nn.Module,
    state: MutableMapping[str, Tensor],
    prefix: str,
    metadata: object,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    assert isinstance(layer, AdaptedLinear)
    if layer.merged:
        errors.append(f"{prefix.rstrip('.')} is merged with its adapter: unmerge before other weights come")
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}{_BASE}{name.removeprefix(prefix)}"] = state.pop(name)
    state[f"{prefix}down"], state[f"{prefix}up"] = layer.down, layer.up
