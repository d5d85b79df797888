"""NVIDIA's native checkpoints, `model.pt` (arXiv 2501.03575, section 5.1): names of Predict1 and of Predict2 and 2.5.

Training files also hold counters, rotary tables and the extra state of Transformer Engine's layers, which nothing here
reads, and some hold the averaged network (``net_ema.``) beside the current one.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from torch import Tensor

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.layout_names import Names, in_block
from cosmos_diffusion.native_config import Shapes, config_of
from cosmos_tokenizer import InputError

_PREFIXES = ("net_ema.", "net.")
_UNUSED = re.compile(
    r"(.+\.)?_extra_state|(net\.|net_ema\.)?(accum_\w+|pos_embedder\.(seq|dim_spatial_range|dim_temporal_range))"
)
_NET = re.compile(r"(net\.|net_ema\.)?(x_embedder|t_embedder|blocks|final_layer)\.")

UNCERTAINTY = {
    "uncertainty.frequencies": "logvar.0.freqs",
    "uncertainty.phases": "logvar.0.phases",
    "uncertainty.linear.weight": "logvar.1.weight",
}
"""Our names to those of the logarithm of the loss, which stands beside the network, without its prefix."""

_BOTH = {
    "patch.weight": "x_embedder.proj.1.weight",
    "position.t": "extra_pos_embedder.pos_emb_t",
    "position.h": "extra_pos_embedder.pos_emb_h",
    "position.w": "extra_pos_embedder.pos_emb_w",
    "noise.up.weight": "t_embedder.1.linear_1.weight",
    "noise.down.weight": "t_embedder.1.linear_2.weight",
    "text.weight": "crossattn_proj.0.weight",
    "text.bias": "crossattn_proj.0.bias",
    "last.weight": "final_layer.linear.weight",
    "channels.tokens.weight": "token_embedder.weight",
    "channels.views.weight": "view_embeddings.weight",
    "channels.repeats.weight": "repeat_frame_embedding.weight",
    "channels.repeats.bias": "repeat_frame_embedding.bias",
    "channels.trajectory.weight": "traj_embeddings.weight",
    "channels.trajectory.bias": "traj_embeddings.bias",
} | {
    f"noise.{here}.{layer}.{kind}": f"{there}.{theirs}.{kind}"
    for here, there in (("action_embedding", "action_embedder_B_D"), ("action_shared", "action_embedder_B_3D"))
    for layer, theirs in (("up", "fc1"), ("down", "fc2"))
    for kind in ("weight", "bias")
}
PREDICT1 = Names(
    block="blocks.block{}.",
    in_block=in_block(
        attentions=("blocks.0.block.attn", "blocks.1.block.attn"),
        inside={
            "q": "to_q.0",
            "q_norm": "to_q.1",
            "k": "to_k.0",
            "k_norm": "to_k.1",
            "v": "to_v.0",
            "out": "to_out.0",
        },
        perceptron=("blocks.2.block.layer1", "blocks.2.block.layer2"),
        modulations=tuple(f"blocks.{index}.adaLN_modulation.{{}}" for index in range(3)),
    ),
    elsewhere=_BOTH
    | {
        "noise.norm.weight": "affline_norm.weight",
        "last_modulation.down.weight": "final_layer.adaLN_modulation.1.weight",
        "last_modulation.up.weight": "final_layer.adaLN_modulation.2.weight",
    },
)
PREDICT2 = Names(
    block="blocks.{}.",
    in_block=in_block(
        attentions=("self_attn", "cross_attn"),
        inside={
            "q": "q_proj",
            "q_norm": "q_norm",
            "k": "k_proj",
            "k_norm": "k_norm",
            "v": "v_proj",
            "out": "output_proj",
        },
        perceptron=("mlp.layer1", "mlp.layer2"),
        modulations=tuple(f"adaln_modulation_{part}.{{}}" for part in ("self_attn", "cross_attn", "mlp")),
    ),
    elsewhere=_BOTH
    | {
        "noise.norm.weight": "t_embedding_norm.weight",
        "last_modulation.down.weight": "final_layer.adaln_modulation.1.weight",
        "last_modulation.up.weight": "final_layer.adaln_modulation.2.weight",
    },
)


def is_native(weights: Mapping[str, Tensor]) -> bool:
    """Whether some names are those of a native file."""
    return any(_NET.match(name) for name in weights)


class NativeFile:
    """The tensors of a native file, which names they have, and what network they are of."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        held = {prefix for prefix in _PREFIXES for name in weights if name.startswith(prefix) and _NET.match(name)}
        # Averaging is there to give the weights that are used.
        self._prefix = next((prefix for prefix in _PREFIXES if prefix in held), "")
        self._numbers = {
            family.block: {family.block_of(name.removeprefix(self._prefix)) for name in weights} - {None}
            for family in (PREDICT1, PREDICT2)
        }
        old = self._numbers[PREDICT1.block] or any(name.endswith("affline_norm.weight") for name in weights)
        self.names = PREDICT1 if old else PREDICT2

    def config(self, given: DiTConfig | None) -> DiTConfig:
        """Sizes and conditionings off the shapes, the rest from ``given`` or the nearest released network.

        Raises:
            InputError: the tensors are of no network, or ``given`` contradicts them.
        """
        numbers = self._numbers[self.names.block]
        blocks = next(number for number in count() if number not in numbers)
        if len(numbers) > blocks or not blocks:
            first = self._there(f"blocks.{blocks}.self_attention.q.weight")
            raise InputError(f"key {first} is missing: the file is truncated or of another network")
        shapes = Shapes({name: tuple(value.shape) for name, value in self._weights.items()}, self._there, blocks)
        return config_of(shapes, given, lambda preset: names_of(preset) is self.names)

    def places(self, ours: Iterable[str]) -> dict[str, str]:
        """Our names to those in the file; of the uncertainty only where the file holds some of it."""
        trained = any(name in self._weights for name in UNCERTAINTY.values())
        places = _places(ours, self._there)
        return {name: place for name, place in places.items() if trained or name not in UNCERTAINTY}

    def is_unused(self, name: str) -> bool:
        """Whether a name may stand in the file without a place here: also the current network beside its average."""
        return bool(_UNUSED.fullmatch(name)) or (self._prefix == "net_ema." and name.startswith("net."))

    def _there(self, name: str) -> str:
        return self._prefix + self.names.there(name)


def to_native(config: DiTConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a native file: with the prefix that NVIDIA's have, under the names of the network's family."""
    names = names_of(config)
    return {place: state[name] for name, place in _places(state, lambda name: f"net.{names.there(name)}").items()}


def names_of(config: DiTConfig) -> Names:
    """Names that a network has in native files: Predict1's for its prediction, else those of its successors."""
    return PREDICT1 if config.prediction == "edm" else PREDICT2


def _places(ours: Iterable[str], there: Callable[[str], str]) -> dict[str, str]:
    names = (name for name in ours if name in UNCERTAINTY or name.startswith("net."))
    return {name: UNCERTAINTY.get(name) or there(name.removeprefix("net.")) for name in names}
