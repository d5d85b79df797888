"""Linear layers, as the family's transformers have them, and the switch that runs them in eight bits."""

import warnings
from collections.abc import Collection, Iterator
from functools import cache
from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.nn import float8, float8_te
from cosmos_tokenizer import InputError

Float8Backend = Literal["te", "torch", "bf16"]
"""What computes: Transformer Engine, torch's scaled products, or products in bfloat16 where neither runs."""
FLOAT8_BACKENDS: tuple[Float8Backend, ...] = get_args(Float8Backend)
Scaling = Literal["current", "delayed"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
_UNIT = 16
"""Both sides of a weight must be multiples of this for the tensor cores' eight-bit products."""


class Product(Protocol):
    """How a layer multiplies."""

    def __call__(self, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        """``x W^T + b`` over the last axis, in the dtype of ``x``."""
        ...


class Linear(nn.Linear):
    """``x W^T``, without a bias unless asked; :func:`use_float8` changes how layers of this class multiply."""

    product: Product | None = None

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def forward(self, input: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """The product, in the precision that was chosen."""
        if self.product is None:
            return super().forward(input)
        return self.product(input, self.weight, self.bias)


def use_float8(
    module: nn.Module,
    *,
    backend: Float8Backend | Literal["auto"] = "auto",
    scaling: Scaling = "current",
    skip: Collection[str] = (),
) -> Float8Backend:
    """Let the :class:`Linear` layers of a network multiply in eight bits from now on, and return what computes.

    Forward: input and weight are brought to float8 e4m3 (three bits of mantissa) with one scale a tensor, so that the
    largest value fits, and multiplied; the result has the input's dtype. Backward: the gradient is brought to e5m2 and
    multiplied with the same e4m3 weight and input. Sums are in float32 (forward on Hopper: in its tensor cores' own,
    fewer bits, as is usual). Weights, their gradients and a bias keep their dtype, and so does a checkpoint. Layers
    with a side that is no multiple of 16 stay as they are.

    Args:
        module: whose ``forward`` is called: Transformer Engine is entered and left with it, and runs what is called
            beside it in full precision.
        backend: "te" (CUDA, compute capability 8.9 and up), "torch" (the same GPUs, and CPUs, for tests: it is slow
            there), "bf16" (all layers, in bfloat16), or "auto", the first of them that runs here.
        scaling: "current", by the largest value of the very tensor, or "delayed", by those of the last 16 training
            steps, which saves a pass over each ("te" alone; it learns scales in training, not where gradients are off).
        skip: names of parts to leave as they are, anywhere in a layer's dotted name: those where there is little to
            gain (few rows) or much to lose.

    Raises:
        InputError: a backend or scaling is unknown, not installed, or does not run on the module's device.
    """
    if backend not in (*FLOAT8_BACKENDS, "auto"):
        raise InputError(f"float8 backend is {backend!r}: use auto, {', '.join(FLOAT8_BACKENDS)}")
    if scaling not in SCALINGS:
        raise InputError(f"scaling is {scaling!r}: use {' or '.join(SCALINGS)}")
    layers = [layer for name, layer in _linears(module) if not set(skip) & set(name.split("."))]
    if not layers:
        raise InputError(f"no layers to run in eight bits: skip is {', '.join(skip) or 'empty'}")
    device = layers[0].weight.device
    chosen = _automatic(device) if backend == "auto" else backend
    if backend != "auto" and (refusal := _refusal(chosen, device)) is not None:
        raise InputError(refusal)
    if scaling == "delayed" and chosen != "te":
        raise InputError(f"scaling 'delayed' is Transformer Engine's, and backend is {chosen!r}: use 'current'")
    use_full_precision(module)
    for layer in layers:
        if chosen == "bf16":
            layer.product = float8.bfloat16_product
        elif not (layer.in_features % _UNIT or layer.out_features % _UNIT):
            layer.product = float8.float8_product if chosen == "torch" else float8_te.EngineProduct(layer)
    if chosen == "te":
        float8_te.enter_with(module, scaling)
    return chosen


def use_full_precision(module: nn.Module) -> None:
    """Undo :func:`use_float8`."""
    for _, layer in _linears(module):
        layer.product = None
    float8_te.no_longer_enter_with(module)


def _linears(module: nn.Module) -> Iterator[tuple[str, Linear]]:
    for name, part in module.named_modules():
        if isinstance(part, Linear):
            yield name, part


def _automatic(device: torch.device) -> Float8Backend:
    refusals = []
    for backend in FLOAT8_BACKENDS:
        refusal = _refusal(backend, device)
        if refusal is None:
            if refusals and device.type == "cuda":
                _say(f"linear layers run on {backend!r}: {refusals[0]}")
            return backend
        refusals.append(refusal)
    raise AssertionError("bfloat16 runs everywhere")


def _refusal(backend: Float8Backend, device: torch.device) -> str | None:
    """Why a backend does not run here, in one line."""
    if backend == "bf16":
        return None
    if backend == "torch":
        return float8.refusal(device)
    return float8_te.refusal(device)


@cache
def _say(what: str) -> None:
    warnings.warn(what, stacklevel=4)
