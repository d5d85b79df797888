"""diffusers' ``CosmosTransformer3DModel``: its names and its config.json against ours.

It has no place for the uncertainty, which only training uses, nor for views, rays, tokens and actions. What it does not
say of a network stands in the metadata of the weights that are written here, where diffusers ignores it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.families import check_given, completed
from cosmos_diffusion.layout_names import Names, in_block
from cosmos_tokenizer import InputError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
_CLASS = "CosmosTransformer3DModel"
_METADATA = "cosmos_diffusion_config"

_NAMES = Names(
    block="transformer_blocks.{}.",
    in_block=in_block(
        attentions=("attn1", "attn2"),
        inside={"q": "to_q", "q_norm": "norm_q", "k": "to_k", "k_norm": "norm_k", "v": "to_v", "out": "to_out.0"},
        perceptron=("ff.net.0.proj", "ff.net.2"),
        modulations=tuple(f"norm{number}.linear_{{}}" for number in (1, 2, 3)),
    ),
    elsewhere={
        "patch.weight": "patch_embed.proj.weight",
        "position.t": "learnable_pos_embed.pos_emb_t",
        "position.h": "learnable_pos_embed.pos_emb_h",
        "position.w": "learnable_pos_embed.pos_emb_w",
        "noise.up.weight": "time_embed.t_embedder.linear_1.weight",
        "noise.down.weight": "time_embed.t_embedder.linear_2.weight",
        "noise.norm.weight": "time_embed.norm.weight",
        "text.weight": "crossattn_proj.0.weight",
        "text.bias": "crossattn_proj.0.bias",
        "last_modulation.down.weight": "norm_out.linear_1.weight",
        "last_modulation.up.weight": "norm_out.linear_2.weight",
        "last.weight": "proj_out.weight",
    },
)


def name_there(name: str) -> str:
    """diffusers' name of one of our network's parameters; KeyError where diffusers has none."""
    return _NAMES.there(name)


def is_diffusers(weights: Mapping[str, Tensor]) -> bool:
    """Whether some names are those of diffusers' transformer."""
    return any(name.startswith(("transformer_blocks.", "patch_embed.", "time_embed.")) for name in weights)


def read_config(path: Path) -> Mapping[str, object]:
    """Fields of a config.json.

    Raises:
        InputError: it is not there, not JSON, or not of diffusers' transformer.
    """
    if not path.is_file():
        raise InputError(f"a diffusers transformer needs {path.name} beside it")
    try:
        fields = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    name = fields.get("_class_name") if isinstance(fields, dict) else None
    if name != _CLASS:
        raise InputError(f"{path} has _class_name {name!r}: only {_CLASS} is read")
    return fields


def config_from_diffusers(
    fields: Mapping[str, object], metadata: Mapping[str, str], given: DiTConfig | None
) -> DiTConfig:
    """Config of a transformer: the fields of its config.json, the rest as the weights' metadata or a release has it.

    Raises:
        InputError: the fields are of a network that is not built here, or ``given`` contradicts them.
    """
    known = _known(fields)
    if given is None and _METADATA in metadata:
        try:
            ours = DiTConfig.from_dict(json.loads(metadata[_METADATA]))
            check_given(ours, known)
            return ours
        except (ValueError, TypeError):  # somebody wrote another config.json: that is what diffusers would build
            pass
    return completed(known, given, lambda preset: _unsupported(preset) is None)


def to_diffusers(
    config: DiTConfig, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, object], dict[str, str]]:
    """Tensors, fields of config.json, and metadata of the tensors' file.

    Raises:
        InputError: diffusers has no class for such a network.
    """
    reason = _unsupported(config)
    if reason is not None:
        raise InputError(f"diffusers' {_CLASS} has no place for this network: {reason}")
    fields: dict[str, object] = {
        "_class_name": _CLASS,
        "in_channels": config.latent_channels + config.condition_mask,
        "out_channels": config.latent_channels,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_width,
        "num_layers": config.blocks,
        "mlp_ratio": config.mlp_ratio,
        "text_embed_dim": config.text_width,
        "adaln_lora_dim": config.adaln_rank,
        "max_size": list(config.grid),
        "patch_size": list(config.patch),
        "rope_scale": list(config.rope_ratio),
        "concat_padding_mask": config.padding_mask,
        "extra_pos_embed_type": "learnable" if config.position == "learned" else None,
        "use_crossattn_projection": config.text_projection > 0,
        "crossattn_proj_in_channels": config.text_projection or 1024,
        "encoder_hidden_states_channels": config.text_width,
    }
    network = {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}
    return (
        {name_there(name): value for name, value in network.items()},
        fields,
        {"format": "pt", _METADATA: json.dumps(asdict(config))},
    )


def _known(fields: Mapping[str, object]) -> dict[str, object]:
    for name in ("controlnet_block_every_n", "img_context_dim_in"):
        if fields.get(name) is not None:
            raise InputError(f"config.json has {name} {fields[name]!r}: such a network is not built here")
    heads, head = _whole(fields, "num_attention_heads", 32), _whole(fields, "attention_head_dim", 128)
    inputs, outputs = _whole(fields, "in_channels", 16), _whole(fields, "out_channels", 16)
    if inputs - outputs not in (0, 1):
        raise InputError(f"config.json has in_channels {inputs} and out_channels {outputs}: at most one more is built")
    position = fields.get("extra_pos_embed_type", "learnable")
    if position not in ("learnable", None):
        raise InputError(f"config.json has extra_pos_embed_type {position!r}: only 'learnable' or null is built here")
    projects = fields.get("use_crossattn_projection", False)
    return {
        "blocks": _whole(fields, "num_layers", 28),
        "width": heads * head,
        "heads": heads,
        "mlp_ratio": _real(fields.get("mlp_ratio", 4.0)),
        "adaln_rank": _whole(fields, "adaln_lora_dim", 256),
        "latent_channels": outputs,
        "text_width": _whole(fields, "text_embed_dim", 1024),
        "text_projection": _whole(fields, "crossattn_proj_in_channels", 1024) if projects else 0,
        "patch": _three(fields, "patch_size", (1, 2, 2)),
        "grid": _three(fields, "max_size", (128, 240, 240)),
        "rope_ratio": tuple(_real(ratio) for ratio in _three(fields, "rope_scale", (2.0, 1.0, 1.0))),
        "position": "none" if position is None else "learned",
        "condition_mask": inputs > outputs,
        "padding_mask": fields.get("concat_padding_mask", True),
    }


def _whole(fields: Mapping[str, object], name: str, default: int) -> int:
    value = fields.get(name, default)
    if type(value) is not int or value < 1:
        raise InputError(f"config.json has {name} {value!r}: a whole number from 1 up was expected")
    return value


def _three(fields: Mapping[str, object], name: str, default: tuple[int | float, ...]) -> tuple[object, ...]:
    value = fields.get(name, default)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise InputError(f"config.json has {name} {value!r}: three numbers were expected")
    return tuple(value)


def _real(value: object) -> object:
    """As JSON's readers may make a whole number of it."""
    return float(value) if type(value) is int else value


def _unsupported(config: DiTConfig) -> str | None:
    for name in ("views", "camera_channels", "token_channels", "action_numbers"):
        if getattr(config, name):
            return f"{name} is {getattr(config, name)}, and only 0 is there"
    if config.position == "sincos":
        return "position is 'sincos', and only 'learned' and 'none' are there"
    return None
