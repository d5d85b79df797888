"""NVIDIA's native files: names by the published table, configs off the shapes, and what training leaves in them."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.checkpoint import load
from cosmos_diffusion.native_layout import NativeFile, to_native
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

TEXT, VIDEO = PRESETS["toy"], PRESETS["toy-video"]
PREDICT25 = replace(
    VIDEO, position="none", rope_fps=False, rope_ratio=(1.0, 3.0, 3.0), text_projection=40, prediction="rectified"
)
VIEWS = replace(VIDEO, views=3, view_channels=5, trajectory_channels=4, position="sincos")

# diffusers' names to native ones, as the two projects publish them.
PREDICT1_TABLE = (
    (r"^patch_embed\.proj\.", "x_embedder.proj.1."),
    (r"^learnable_pos_embed\.", "extra_pos_embedder."),
    (r"^time_embed\.t_embedder\.", "t_embedder.1."),
    (r"^time_embed\.norm\.", "affline_norm."),
    (r"^norm_out\.linear_", "final_layer.adaLN_modulation."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"\.attn1\.", ".blocks.0.block.attn."),
    (r"\.attn2\.", ".blocks.1.block.attn."),
    (r"\.to_([qkv])\.", r".to_\1.0."),
    (r"\.norm_([qk])\.", r".to_\1.1."),
    (r"\.ff\.net\.0\.proj\.", ".blocks.2.block.layer1."),
    (r"\.ff\.net\.2\.", ".blocks.2.block.layer2."),
    (r"\.norm(\d)\.linear_", lambda found: f".blocks.{int(found[1]) - 1}.adaLN_modulation."),
    (r"^transformer_blocks\.(\d+)\.", r"blocks.block\1."),
)
PREDICT2_TABLE = (
    (r"^patch_embed\.proj\.", "x_embedder.proj.1."),
    (r"^time_embed\.t_embedder\.", "t_embedder.1."),
    (r"^time_embed\.norm\.", "t_embedding_norm."),
    (r"^norm_out\.linear_", "final_layer.adaln_modulation."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])\.", r".\1_proj."),
    (r"\.to_out\.0\.", ".output_proj."),
    (r"\.norm_([qk])\.", r".\1_norm."),
    (r"\.ff\.net\.0\.proj\.", ".mlp.layer1."),
    (r"\.ff\.net\.2\.", ".mlp.layer2."),
    (r"\.norm1\.linear_", ".adaln_modulation_self_attn."),
    (r"\.norm2\.linear_", ".adaln_modulation_cross_attn."),
    (r"\.norm3\.linear_", ".adaln_modulation_mlp."),
    (r"^transformer_blocks\.(\d+)\.", r"blocks.\1."),
)


def renamed(weights: dict[str, Tensor], table: tuple) -> dict[str, Tensor]:
    for pattern, name in table:
        weights = {re.sub(pattern, name, key): value for key, value in weights.items()}
    return weights


def native(model: WorldModel) -> dict[str, Tensor]:
    return to_native(model.config, model.state_dict())


@pytest.mark.parametrize(
    ("config", "table"),
    [(TEXT, PREDICT1_TABLE), (VIDEO, PREDICT1_TABLE), (PREDICT25, PREDICT2_TABLE)],
    ids=["text", "video", "2.5"],
)
def test_a_native_file_by_the_published_names_is_the_same_network(
    oracle: Callable, config: DiTConfig, table: tuple, tmp_path: Path
) -> None:
    peer = oracle(config)
    weights = {f"net.{name}": value for name, value in renamed(peer.state_dict(), table).items()}
    torch.save(weights, tmp_path / "model.pt")
    model = load(tmp_path, config=config)
    x, c_noise = torch.randn(2, 16, 3, 4, 6), torch.randn(2)
    text = torch.randn(2, 5, config.text_projection or config.text_width)
    given = {"padding_mask": (torch.rand(1, 1, 32, 48) > 0.5).float()}
    if config.condition_mask:
        given["condition_mask"] = torch.rand(2, 1, 3, 4, 6)
    with torch.no_grad():
        expected = peer(x, c_noise, text, **given, return_dict=False)[0]
        torch.testing.assert_close(model.net(x, c_noise, text, fps=None, **given), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_every_presets_keys_go_both_ways_and_say_its_config(name: str) -> None:
    with torch.device("meta"):
        model = WorldModel(PRESETS[name])
    state, weights = model.state_dict(), native(model)
    assert len(weights) == len(state)
    file = NativeFile(weights)
    given = PRESETS[name] if name.startswith("nano") else None  # what shapes do not say is as released
    assert file.config(given) == PRESETS[name]
    assert {ours: weights[place].shape for ours, place in file.places(state).items()} == {
        ours: value.shape for ours, value in state.items()
    }


def test_conditionings_have_their_published_keys() -> None:
    with torch.device("meta"):
        views = native(WorldModel(VIEWS))
        action = native(WorldModel(replace(VIDEO, action_numbers=7, position="none")))
        tokens = native(WorldModel(replace(TEXT, token_channels=8, token_codes=50)))
    shapes = {name: tuple(value.shape) for name, value in (views | action | tokens).items()}
    old = "net.blocks.block1.blocks.2.block.layer1.weight"  # names go with the prediction, positions or none
    assert old in views
    assert old in action
    assert old in tokens
    for name, shape in {
        "net.view_embeddings.weight": (3, 5),
        "net.repeat_frame_embedding.weight": (5, 1),
        "net.repeat_frame_embedding.bias": (5,),
        "net.traj_embeddings.weight": (4, 192),
        "net.traj_embeddings.bias": (4,),
        "net.action_embedder_B_D.fc1.weight": (192, 7),
        "net.action_embedder_B_D.fc2.bias": (48,),
        "net.action_embedder_B_3D.fc2.weight": (144, 192),
        "net.token_embedder.weight": (50, 8),
        "logvar.0.freqs": (128,),
        "logvar.0.phases": (128,),
        "logvar.1.weight": (1, 128),
    }.items():
        assert shapes[name] == shape, name


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "prefix": lambda weights: weights,
    "no prefix": lambda weights: {name.removeprefix("net."): value for name, value in weights.items()},
    "model": lambda weights: {"model": weights, "iteration": 3},
    "module": lambda weights: {"module": weights},
    "state_dict": lambda weights: {"state_dict": weights},
    "model in model": lambda weights: {"model": {"module": weights}},
    "average": lambda weights: (
        {name: value + 1 for name, value in weights.items()}
        | {name.replace("net.", "net_ema."): value for name, value in weights.items()}
    ),
    "training": lambda weights: (
        weights
        | {
            max(weights).rpartition(".")[0] + "._extra_state": io.BytesIO(b"of an engine"),
            min(weights).rpartition(".")[0] + "._extra_state": torch.zeros(3, dtype=torch.uint8),
            "net.pos_embedder.seq": torch.arange(16),
            "net.pos_embedder.dim_spatial_range": torch.rand(4),
            "net.accum_iteration": torch.tensor(7),
            "net.accum_video_sample_counter": torch.tensor(7),
        }
    ),
}


@pytest.mark.parametrize("prediction", ["edm", "flow"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_prefixes_and_what_training_leaves_change_nothing(
    wrapper: str, prediction: str, randomised: Callable, tmp_path: Path
) -> None:
    model = randomised(WorldModel(replace(VIDEO, prediction=prediction)))
    torch.save(WRAPPERS[wrapper](native(model)), tmp_path / "anything.bin")
    again = load(tmp_path / "anything.bin", config=model.config)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_file_without_an_uncertainty_gives_the_same_untrained_one_each_time(
    randomised: Callable, tmp_path: Path
) -> None:
    weights = native(randomised(WorldModel(TEXT)))
    torch.save({name: value for name, value in weights.items() if name.startswith("net.")}, tmp_path / "model.pt")
    before = torch.random.get_rng_state()
    first, second = load(tmp_path).uncertainty.state_dict(), load(tmp_path).uncertainty.state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["linear.weight"].abs().sum() > 0


# Odd sizes and every conditioning; what shapes do not say is left as the released nets have it.
NARROW = replace(
    PRESETS["7b-text2world"],
    blocks=3,
    width=72,
    heads=3,
    mlp_ratio=99.5 / 72,
    adaln_rank=6,
    text_width=20,
    grid=(6, 10, 14),
)
SHAPES: dict[str, DiTConfig] = {
    "text": NARROW,
    "video": replace(NARROW, condition_mask=True),
    "camera": replace(NARROW, condition_mask=True, camera_channels=6),
    "camera alone": replace(NARROW, camera_channels=6),
    "camera, no padding": replace(NARROW, padding_mask=False, camera_channels=6),
    "wide": replace(NARROW, width=6000, heads=50, mlp_ratio=4.0, rope_ratio=(2.0, 2.0, 2.0)),
    "no padding": replace(NARROW, padding_mask=False, latent_channels=8),
    "views": replace(NARROW, views=5, view_channels=3, position="sincos", grid=(128, 240, 240)),
    "path": replace(NARROW, views=5, trajectory_channels=9, position="sincos", grid=(128, 240, 240)),
    "action": replace(NARROW, condition_mask=True, action_numbers=11, action_branch="modulation"),
    "tokens": replace(NARROW, token_channels=7, token_codes=30, rope_ratio=(1.0, 1.5, 1.5)),
    "2": replace(
        NARROW,
        grid=(128, 240, 240),
        position="none",
        prediction="flow",
        rope_fps=False,
        rope_ratio=(1.0, 4.0, 4.0),
    ),
    "2.5": replace(
        NARROW,
        grid=(128, 240, 240),
        position="none",
        prediction="rectified",
        rope_fps=False,
        rope_ratio=(1.0, 3.0, 3.0),
        condition_mask=True,
        text_projection=33,
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_say_the_config_and_the_family_the_rest(name: str) -> None:
    config = SHAPES[name]
    with torch.device("meta"):
        model = WorldModel(config)
    found = NativeFile(native(model)).config(None)
    assert found.mlp_width == config.mlp_width
    assert replace(found, mlp_ratio=config.mlp_ratio) == config


def test_a_config_says_what_shapes_cannot(randomised: Callable, tmp_path: Path) -> None:
    config = replace(TEXT, patch=(1, 1, 4), grid=(16, 31, 32), rope_ratio=(1.5, 2.0, 3.0), text_length=9, mlp_ratio=2.7)
    torch.save(native(randomised(WorldModel(config))), tmp_path / "model.pt")
    assert load(tmp_path, config=config).config == config
    assert load(tmp_path).config.rope_ratio == PRESETS["7b-text2world"].rope_ratio


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 96, "heads": 4}, "has width 96, and the file 48"),
        ({"condition_mask": True}, "has 18 input channels, and the file 17"),
        ({"views": 3, "position": "sincos"}, "input channels"),
        ({"text_projection": 7}, "has text_projection 7, and the file 0"),
        ({"grid": (16, 64, 64)}, r"has grid \(16, 64, 64\)"),
    ],
)
def test_a_config_that_contradicts_the_file_is_refused(
    change: dict, says: str, randomised: Callable, tmp_path: Path
) -> None:
    torch.save(native(randomised(WorldModel(TEXT))), tmp_path / "model.pt")
    with pytest.raises(InputError, match=says):
        load(tmp_path, config=replace(TEXT, **change))
    with pytest.raises(InputError, match="config is 'tiny': use one of 7b-text2world"):
        load(tmp_path, config="tiny")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("net.blocks.block1.blocks.0.block.attn.to_q.0.weight", None, "to_q.0.weight is missing"),
        ("net.x_embedder.proj.1.weight", None, "net.x_embedder.proj.1.weight is missing"),
        ("net.affline_norm.weight", None, "net.affline_norm.weight is missing"),
        ("logvar.0.phases", None, "logvar.0.phases is missing"),
        ("net.extra_pos_embedder.pos_emb_h", None, "pos_emb_h is missing"),
        ("net.mystery.weight", torch.zeros(3), "net.mystery.weight is unexpected"),
        ("net.x_embedder.proj.1.weight", torch.zeros(48, 69), r"proj.1.weight has shape \(48, 69\)"),
        ("net.x_embedder.proj.1.weight", torch.zeros(48, 80), r"proj.1.weight has shape \(48, 80\)"),
        ("net.x_embedder.proj.1.weight", torch.zeros(47, 68), r"has shape \(47, 68\), expected \(48, 68\)"),
        ("net.final_layer.linear.weight", torch.zeros(64), r"final_layer.linear.weight has shape \(64,\)"),
        ("net.blocks.block0.blocks.0.block.attn.to_q.0.weight", torch.zeros(47, 48), r"to_q.0.weight has shape \(47"),
        ("net.blocks.block1.blocks.0.block.attn.to_q.1.weight", torch.zeros(25), r"to_q.1.weight has shape \(25"),
        ("net.blocks.block9.blocks.2.block.layer1.weight", torch.zeros(3), "blocks.block2.*is missing"),
        ("net.blocks.block0.blocks.2.block.layer1.weight", torch.full((192, 48), torch.nan), "layer1.weight holds NaN"),
        ("net.affline_norm.weight", torch.zeros(48, dtype=torch.int32), "holds torch.int32"),
        ("net.affline_norm.weight", torch.zeros(48).to(torch.float8_e4m3fn), "holds torch.float8_e4m3fn"),
    ],
)
def test_the_first_bad_key_is_named(
    key: str, value: Tensor | None, says: str, randomised: Callable, tmp_path: Path
) -> None:
    weights = native(randomised(WorldModel(TEXT))) | ({} if value is None else {key: value})
    if value is None:
        del weights[key]
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(InputError, match=f"model.pt: key .*{says}"):
        load(tmp_path)


def test_heads_that_do_not_share_the_width_out_are_named(randomised: Callable, tmp_path: Path) -> None:
    weights = native(randomised(WorldModel(TEXT)))
    for name in weights:
        if re.search(r"to_[qk]\.1", name):
            weights[name] = torch.zeros(25)
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"to_q\.1\.weight has shape \(25,\), which no network here has"):
        load(tmp_path)


def test_a_file_of_blocks_cut_off_is_named(randomised: Callable, tmp_path: Path) -> None:
    weights = native(randomised(WorldModel(TEXT)))
    torch.save({name: value for name, value in weights.items() if ".blocks." not in name}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"key net\.blocks\.block0\.blocks\.0.* is missing"):
        load(tmp_path)
