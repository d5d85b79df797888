"""Names of our parameters in diffusers' ``CosmosTransformer3DModel``; no tensor is transposed or permuted."""

import re

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_IN_BLOCK = {
    "self_attention": "attn1",
    "cross_attention": "attn2",
    "q.weight": "to_q.weight",
    "k.weight": "to_k.weight",
    "v.weight": "to_v.weight",
    "q_norm.weight": "norm_q.weight",
    "k_norm.weight": "norm_k.weight",
    "out.weight": "to_out.0.weight",
    "up.weight": "ff.net.0.proj.weight",
    "down.weight": "ff.net.2.weight",
}
_ELSEWHERE = {
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
}


def name_there(name: str) -> str:
    """diffusers' name of one of our parameters; KeyError where diffusers has none."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        return _ELSEWHERE[name]
    index, rest = found.groups()
    head, _, tail = rest.partition(".")
    if head == "modulations":
        which, _, layer = tail.partition(".")
        place = {"down.weight": "linear_1.weight", "up.weight": "linear_2.weight"}[layer]
        return f"transformer_blocks.{index}.norm{int(which) + 1}.{place}"
    if head in ("self_attention", "cross_attention"):
        return f"transformer_blocks.{index}.{_IN_BLOCK[head]}.{_IN_BLOCK[tail]}"
    return f"transformer_blocks.{index}.{_IN_BLOCK[rest]}"
