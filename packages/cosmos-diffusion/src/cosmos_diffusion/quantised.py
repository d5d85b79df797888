"""Weights in eight bits, computing in the network's own dtype: half the memory of bfloat16, a quarter of float32."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from cosmos_diffusion.nn import Linear
from cosmos_tokenizer import InputError

Form = Literal["int8", "float8"]
"""Whole numbers from -127 to 127, or float8 e4m3: a sign, four bits of exponent, three of mantissa."""
FORMS: tuple[Form, ...] = get_args(Form)
_STORED: dict[Form, torch.dtype] = {"int8": torch.int8, "float8": torch.uint8}
_LARGEST: dict[Form, float] = {"int8": 127.0, "float8": torch.finfo(torch.float8_e4m3fn).max}
_AT_ONCE = 1 << 20
"""Weights that the CPU has in float32 at a time."""


class QuantisedLinear(nn.Module):
    """A linear layer whose weight is ``codes * scale``, with one scale an output channel; for inference.

    The weight is made in the dtype that the layer computes in each time that it runs, and let go of again. Where ``s``
    is a channel's largest weight, one of its weights ``w`` is off by at most ``s / 254`` in int8, and in float8 by at
    most ``|w| / 16``, or ``s / 458752`` if that is more.

    Args:
        layer: whose weight and bias are taken.
        form: of the codes.
    """

    def __init__(self, layer: nn.Linear, form: Form) -> None:
        super().__init__()
        self.in_features, self.out_features, self.form = layer.in_features, layer.out_features, form
        codes_OI, scale_O = quantised(layer.weight.detach(), form)
        # Parameters, not buffers, so that whatever shards or pages a network's parameters takes them along.
        self.codes = nn.Parameter(codes_OI, requires_grad=False)
        self.scale = nn.Parameter(scale_O, requires_grad=False)
        self.bias = layer.bias
        self.dtype = layer.weight.dtype
        self.train(layer.training)

    @property
    def weight(self) -> Float[Tensor, "O I"]:
        """The weight as it is used, in the dtype that the layer computes in; made where something computes with it."""
        return _Unmade(self.codes, self.scale, self.dtype)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """``x W^T + b``."""
        return F.linear(x, dequantised(self.codes, self.scale, self.dtype), self.bias)

    def extra_repr(self) -> str:
        """What printing shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, form={self.form}"

    def _apply(self, fn: Any, recurse: bool = True) -> "QuantisedLinear":  # noqa: ANN401 - torch's own
        """As every module, except that the scale stays in float32 where the network goes to half precision."""
        exact = self.scale.data
        super()._apply(fn, recurse)
        if self.scale.dtype != torch.float32:
            self.scale.data = exact.to(self.codes.device)
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype  # follows the network's, which no tensor here shows
        return self


class _Unmade(Tensor):
    """A weight of which dtype, shape and device can be asked, as transformers does before every call, for nothing."""

    _codes_OI: Tensor
    _scale_O: Tensor

    @staticmethod
    def __new__(cls: type["_Unmade"], codes_OI: Tensor, scale_O: Tensor, dtype: torch.dtype) -> "_Unmade":
        make: Any = Tensor._make_wrapper_subclass
        unmade = make(cls, codes_OI.shape, dtype=dtype, device=codes_OI.device)
        unmade._codes_OI, unmade._scale_O = codes_OI, scale_O
        return unmade

    @classmethod
    def __torch_dispatch__(
        cls, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        def made(weight: _Unmade) -> Tensor:
            return dequantised(weight._codes_OI, weight._scale_O, weight.dtype)

        return func(*tree_map_only(_Unmade, made, args), **tree_map_only(_Unmade, made, dict(kwargs or {})))


@torch.no_grad()
def quantised(weight_OI: Float[Tensor, "O I"], form: Form) -> tuple[Tensor, Float[Tensor, " O"]]:
    """Codes and scales of a weight; float8 codes come as their bits in uint8, which no change of dtype touches.

    Raises:
        InputError: the form is unknown, or the weight holds NaN or infinity.
    """
    if form not in FORMS:
        raise InputError(f"form is {form!r}: use {' or '.join(FORMS)}")
    if weight_OI.is_meta:
        return weight_OI.new_empty(weight_OI.shape, dtype=_STORED[form]), weight_OI.new_empty(
            weight_OI.shape[0], dtype=torch.float32
        )
    wide = weight_OI.float()
    largest_O = wide.abs().amax(dim=1)
    if not largest_O.isfinite().all():
        raise InputError("a weight holds NaN or infinity: it cannot be brought to eight bits")
    scale_O = (largest_O / _LARGEST[form]).clamp(min=torch.finfo(torch.float32).smallest_normal)
    codes_OI = wide / scale_O[:, None]
    if form == "int8":
        return codes_OI.round_().clamp_(-127, 127).to(torch.int8), scale_O
    return codes_OI.to(torch.float8_e4m3fn).view(torch.uint8), scale_O


def dequantised(codes_OI: Tensor, scale_O: Float[Tensor, " O"], dtype: torch.dtype) -> Float[Tensor, "O I"]:
    """``codes * scale``, rounded once."""
    values = codes_OI.view(torch.float8_e4m3fn) if codes_OI.dtype == torch.uint8 else codes_OI
    if not codes_OI.is_cpu or dtype == torch.float32:
        return values.to(dtype).mul_(scale_O[:, None])  # eight bits are exact in any dtype
    # On the CPU, a product of two dtypes takes several times as long as one in float32 that is rounded then.
    weight_OI = torch.empty(codes_OI.shape, dtype=dtype, device=codes_OI.device)
    rows = max(1, _AT_ONCE // max(1, codes_OI.shape[1]))
    for made, part, scale in zip(weight_OI.split(rows), values.split(rows), scale_O.split(rows), strict=True):
        made.copy_(part.float().mul_(scale[:, None]))
    return weight_OI


def quantise(module: nn.Module, form: Form, *, skip: Collection[str] = ()) -> None:
    """Bring the weights of a network's linear layers to eight bits, in place and layer by layer.

    A network on the meta device works too: it then has the places for a quantised checkpoint.

    Args:
        module: the network.
        form: "int8" or "float8".
        skip: names of parts to leave as they are, anywhere in a layer's dotted name.

    Raises:
        InputError: the form is unknown, a weight is not finite, or there is no layer to change.
    """
    found = [(name, layer) for name, layer in _layers(module) if not set(skip) & set(name.split("."))]
    if not found:
        raise InputError(f"no layers to bring to {form}: skip is {', '.join(skip) or 'empty'}")
    for name, layer in found:
        try:
            module.set_submodule(name, QuantisedLinear(layer, form))
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def quantise_like(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network a place for each layer that a quantised state dict holds, so that it loads strictly.

    Nothing changes where the state dict holds none.
    """
    forms: dict[torch.dtype, Form] = {stored: form for form, stored in _STORED.items()}
    for name, layer in list(_layers(module)):
        codes = state.get(f"{name}.codes")
        if codes is not None and codes.dtype in forms:
            module.set_submodule(name, QuantisedLinear(layer, forms[codes.dtype]))


def dequantise(module: nn.Module) -> None:
    """Give a network's quantised layers weights in the dtype that it computes in, as they were used."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, QuantisedLinear):
            with torch.device("meta"):
                plain = Linear(layer.in_features, layer.out_features)
            plain.weight = nn.Parameter(dequantised(layer.codes, layer.scale, layer.dtype))
            plain.bias = layer.bias
            module.set_submodule(name, plain.train(layer.training))


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, part in list(module.named_modules()):
        if isinstance(part, nn.Linear) and name:
            yield name, part
