"""Linear layers on Transformer Engine's float8 kernels; thin, since it runs on Hopper-class GPUs alone."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosmos_diffusion.nn.extras import installed
from cosmos_tokenizer import InputError

HISTORY = 16
"""Steps whose largest values decide a delayed scale."""
_ROWS = 16
_MARK = "float8_autocast"


class EngineProduct:
    """A layer of Transformer Engine that computes with the weights of one of ours."""

    def __init__(self, layer: nn.Linear) -> None:
        engine = installed("transformer_engine.pytorch", "te")
        self.layer = engine.Linear(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            params_dtype=layer.weight.dtype,
            device="meta",
        )

    def __call__(self, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """``x W^T + b``; in float8 inside the autocast, in the weights' dtype outside it."""
        self.layer._parameters["weight"] = weight_OI  # anew each time: sharding and paging replace the parameter
        if bias_O is not None:
            self.layer._parameters["bias"] = bias_O
        x_LI = x.reshape(-1, x.shape[-1])
        rows = x_LI.shape[0]
        y_LO = self.layer(F.pad(x_LI, (0, 0, 0, -rows % _ROWS)))[:rows]
        return y_LO.unflatten(0, x.shape[:-1])


class _Autocast:
    """Enters the autocast before a module's forward and leaves it behind, also where that raises.

    Once a forward, not once a layer: a delayed scale moves on each time that the autocast ends.
    """

    def __init__(self, module: nn.Module, context: Callable[[], Any]) -> None:
        self._context = context
        self._open: list[Any] = []
        self._hooks = (
            module.register_forward_pre_hook(self._enter),
            module.register_forward_hook(self._leave, always_call=True),
        )

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, module: nn.Module, given: object) -> None:
        context = self._context()
        context.__enter__()
        self._open.append(context)

    def _leave(self, module: nn.Module, given: object, output: object) -> None:
        self._open.pop().__exit__(None, None, None)


def enter_with(module: nn.Module, scaling: str) -> None:
    """Run a module's forward inside Transformer Engine's autocast."""
    engine = installed("transformer_engine.pytorch", "te")
    recipes = installed("transformer_engine.common.recipe", "te")
    both = recipes.Format.HYBRID  # e4m3 forward, e5m2 backward
    if scaling == "delayed":
        recipe = recipes.DelayedScaling(fp8_format=both, amax_history_len=HISTORY, amax_compute_algo="max")
    else:
        recipe = recipes.Float8CurrentScaling(fp8_format=both)
    setattr(module, _MARK, _Autocast(module, lambda: engine.autocast(enabled=True, recipe=recipe)))


def no_longer_enter_with(module: nn.Module) -> None:
    """Undo :func:`enter_with`, on the module or on parts of it."""
    for part in module.modules():
        autocast = part.__dict__.pop(_MARK, None)
        if autocast is not None:
            autocast.remove()


def refusal(device: torch.device) -> str | None:
    """Why it does not run on a device, in one line; None where it does."""
    try:
        engine = installed("transformer_engine.pytorch", "te")
    except InputError as error:
        return str(error)
    if device.type != "cuda":
        return f"backend 'te' runs on CUDA, not on {device}: use 'torch' or 'bf16'"
    there, why = engine.is_fp8_available(return_reason=True)
    return None if there else f"backend 'te' does not run on this GPU: use 'bf16' ({why})"
