"""``convert``: bits survive every layout, diffusers reads what is written for it, and nothing is left half-written."""

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CosmosTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.checkpoint import load, save
from cosmos_diffusion.conversion import convert
from cosmos_diffusion.diffusers_layout import config_from_diffusers, name_there, to_diffusers
from cosmos_diffusion.native_layout import to_native
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

TEXT, VIDEO = PRESETS["toy"], PRESETS["toy-video"]
PREDICT25 = replace(
    VIDEO, position="none", rope_fps=False, rope_ratio=(1.0, 3.0, 3.0), text_projection=40, prediction="rectified"
)
ODD = replace(VIDEO, mlp_ratio=99.5 / 48, text_length=9, rope_ratio=(1.5, 1.25, 1.0), latent_channels=8, blocks=3)
CONFIGS = {"text": TEXT, "video": VIDEO, "2.5": PREDICT25, "odd": ODD}
IN_DIFFUSERS = [
    name
    for name, config in PRESETS.items()
    if config.position != "sincos" and not (config.camera_channels or config.action_numbers or config.token_channels)
]


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("uncertain", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_native_to_ours_and_back_keeps_every_bit(
    config: DiTConfig, dtype: torch.dtype, uncertain: bool, randomised: Callable, tmp_path: Path
) -> None:
    weights = to_native(config, randomised(WorldModel(config)).to(dtype).state_dict())
    weights["net.x_embedder.proj.1.weight"] = weights["net.x_embedder.proj.1.weight"].double()  # each keeps its own
    if not uncertain:
        weights = {name: value for name, value in weights.items() if name.startswith("net.")}
    torch.save({"model": weights}, tmp_path / "model.pt")
    ours = tmp_path / "ours.safetensors"
    assert convert(tmp_path / "model.pt", ours, config=config) == ours
    convert(ours, tmp_path / "back.pt", to="native")
    assert equal(torch.load(tmp_path / "back.pt", weights_only=True), weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_diffusers_and_back_keeps_every_bit_and_the_config(
    config: DiTConfig, dtype: torch.dtype, randomised: Callable, tmp_path: Path
) -> None:
    model = randomised(WorldModel(config)).to(dtype)
    save(model, tmp_path / "ours.safetensors")
    assert convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers") == tmp_path / "folder"
    assert sorted(os.listdir(tmp_path / "folder")) == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = load(tmp_path / "folder")
    assert again.config == config
    assert equal(dict(again.net.state_dict()), dict(model.net.state_dict()))
    convert(tmp_path / "folder", tmp_path / "back.safetensors")
    network = {name: value for name, value in model.state_dict().items() if name.startswith("net.")}
    assert equal(load_file(tmp_path / "back.safetensors"), network)
    convert(tmp_path / "folder", tmp_path / "back.pt", to="native")
    assert equal(torch.load(tmp_path / "back.pt", weights_only=True), to_native(config, network))


def close(model: WorldModel, peer: CosmosTransformer3DModel) -> None:
    config = model.config
    x, c_noise = torch.randn(2, config.latent_channels, 3, 6, 4), torch.randn(2)
    text = torch.randn(2, 5, config.text_projection or config.text_width)
    given = {"padding_mask": (torch.rand(1, 1, 48, 32) > 0.5).float()}
    if config.condition_mask:
        given["condition_mask"] = torch.rand(2, 1, 3, 6, 4)
    with torch.no_grad():
        expected = peer(x, c_noise, text, fps=None, **given, return_dict=False)[0]
        torch.testing.assert_close(model.net(x, c_noise, text, fps=None, **given), expected, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("oracle")  # stands in for torchvision
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_diffusers_loads_what_is_written_for_it(
    config: DiTConfig, randomised: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is to stay in float32 is so here; without accelerate, diffusers does not load a class that names any.
    monkeypatch.setattr(CosmosTransformer3DModel, "_keep_in_fp32_modules", None)
    model = randomised(WorldModel(config))
    save(model, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    peer, said = CosmosTransformer3DModel.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not any(said.values()), said
    close(model, peer)


@pytest.mark.parametrize("size", ["10GB", "100KB"], ids=["whole", "shards"])
@pytest.mark.parametrize("config", [VIDEO, PREDICT25], ids=["video", "2.5"])
def test_what_diffusers_writes_is_loaded(oracle: Callable, config: DiTConfig, size: str, tmp_path: Path) -> None:
    peer = oracle(config)
    folder = tmp_path / "pipeline" / "transformer"
    peer.save_pretrained(folder, max_shard_size=size)
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    (tmp_path / "pipeline" / "vae").mkdir()
    found = sorted(path.name for path in folder.glob("*.safetensors*"))
    assert (len(found) > 2) == (size == "100KB")
    for source in (tmp_path / "pipeline", folder, str(folder / found[-1])):
        loaded = load(source, config=config)
        assert loaded.config == config
        close(loaded, peer)
    assert load(folder).config.prediction == ("edm" if config == VIDEO else "rectified")
    convert(folder, tmp_path / "model.pt", to="native")
    close(load(tmp_path / "model.pt", config=config), peer)


@pytest.mark.parametrize("name", IN_DIFFUSERS)
def test_every_presets_keys_are_diffusers_and_its_config_comes_back(name: str, tmp_path: Path) -> None:
    config = PRESETS[name]
    with torch.device("meta"):
        state = WorldModel(config).state_dict()
        weights, fields, _ = to_diffusers(config, state)
        peer = CosmosTransformer3DModel(**{key: value for key, value in fields.items() if key != "_class_name"})
    assert {key: value.shape for key, value in peer.state_dict().items()} == {
        key: value.shape for key, value in weights.items()
    }
    for ours in state:
        if ours.startswith("net."):
            assert weights[name_there(ours.removeprefix("net."))] is state[ours]
    assert config_from_diffusers(json.loads(json.dumps(fields)), {}, None) == config


def test_a_config_json_that_was_changed_is_believed(randomised: Callable, tmp_path: Path) -> None:
    save(randomised(WorldModel(ODD)), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    path = tmp_path / "folder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_scale": [1, 2, 3]}))
    found = load(tmp_path / "folder").config
    assert found.rope_ratio == (1.0, 2.0, 3.0)
    assert found.prediction == "edm"
    assert found.text_length == 512


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": "CosmosControlNetModel"}, "only CosmosTransformer3DModel is read"),
        ({"controlnet_block_every_n": 7}, "controlnet_block_every_n 7"),
        ({"img_context_dim_in": 1152}, "img_context_dim_in 1152"),
        ({"in_channels": 18}, "in_channels 18 and out_channels 16"),
        ({"in_channels": 19}, "in_channels 19 and out_channels 16"),
        ({"num_layers": "two"}, "num_layers 'two'"),
        ({"num_layers": 3}, r"transformer_blocks\.2\..* is missing"),
        ({"num_layers": 1 << 19}, "524288 blocks, and it holds"),
        ({"num_layers": 1}, r"transformer_blocks\.1\..* is unexpected"),
        ({"mlp_ratio": "4"}, "mlp_ratio is '4'"),
        ({"mlp_ratio": 3}, r"ff\.net\.0\.proj\.weight has shape \(192, 48\), expected \(144, 48\)"),
        ({"patch_size": [1, 2]}, r"patch_size \[1, 2\]"),
        ({"max_size": [16, 31, 32]}, "grid is"),
        ({"rope_scale": ["a", 1, 1]}, "rope_ratio is"),
        ({"extra_pos_embed_type": "rotary"}, "extra_pos_embed_type 'rotary'"),
        ({"extra_pos_embed_type": None}, "learnable_pos_embed.* is unexpected"),
        ({"use_crossattn_projection": True}, "crossattn_proj.* is missing"),
        ({"concat_padding_mask": "yes"}, "padding_mask is 'yes'"),
        ({"num_attention_heads": 4, "attention_head_dim": 12}, r"norm_q\.weight has shape \(24,\), expected \(12,\)"),
        ({"attention_head_dim": 25}, "must be even"),
    ],
)
def test_a_config_json_that_does_not_fit_is_refused(
    change: dict[str, object], says: str, randomised: Callable, tmp_path: Path
) -> None:
    save(randomised(WorldModel(VIDEO)), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    path = tmp_path / "folder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=says):
        load(tmp_path / "folder")


def test_a_missing_or_damaged_config_json_is_named(randomised: Callable, tmp_path: Path) -> None:
    save(randomised(WorldModel(VIDEO)), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    (tmp_path / "folder" / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").unlink()
    with pytest.raises(InputError, match="needs config.json beside it"):
        load(tmp_path / "folder")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda index, shards: shards[1].unlink(), "shard .*-00002-of-.* is missing"),
        (lambda index, shards: shards[1].write_bytes(shards[1].read_bytes()[:-9]), "shard .*-00002-.*a truncated"),
        (lambda index, shards: shards[1].write_bytes(shards[0].read_bytes()), "are of two checkpoints"),
        (lambda index, shards: index.write_text("[]"), "no index of shards"),
        (lambda index, shards: index.write_text('{"weight_map": {}}'), "maps no names"),
        (lambda index, shards: index.write_text('{"weight_map": {"a": "../b"}}'), "a file of the same folder"),
        (lambda index, shards: index.write_text(index.read_text()[:-9]), "no index of shards: JSON"),
    ],
)
def test_shards_that_do_not_fit_are_refused(damage: Any, says: str, oracle: Callable, tmp_path: Path) -> None:  # noqa: ANN401
    oracle(VIDEO).save_pretrained(tmp_path, max_shard_size="100KB")
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    damage(index, sorted(tmp_path.glob("*.safetensors")))
    with pytest.raises(InputError, match=says):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"views": 3, "position": "sincos"}, "views is 3"),
        ({"camera_channels": 6}, "camera_channels is 6"),
        ({"token_channels": 8, "token_codes": 9}, "token_channels is 8"),
        ({"action_numbers": 7}, "action_numbers is 7"),
        ({"position": "sincos"}, "position is 'sincos'"),
    ],
)
def test_what_diffusers_has_no_class_for_is_refused(
    change: dict, says: str, randomised: Callable, tmp_path: Path
) -> None:
    save(randomised(WorldModel(replace(VIDEO, **change))), tmp_path / "ours.safetensors")
    with pytest.raises(InputError, match=f"CosmosTransformer3DModel has no place for this network: {says}"):
        convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    assert os.listdir(tmp_path) == ["ours.safetensors"]


def test_a_dtype_reaches_the_network_of_the_output(randomised: Callable, tmp_path: Path) -> None:
    model = randomised(WorldModel(VIDEO))
    save(model, tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "ours.safetensors", dtype=torch.bfloat16)  # also onto itself
    again = load(tmp_path / "ours.safetensors")
    assert equal(dict(again.net.state_dict()), {n: v.bfloat16() for n, v in model.net.state_dict().items()})
    assert equal(dict(again.uncertainty.state_dict()), dict(model.uncertainty.state_dict()))


def test_a_folder_in_use_is_not_replaced(randomised: Callable, tmp_path: Path) -> None:
    save(randomised(WorldModel(VIDEO)), tmp_path / "ours.safetensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="new or an empty folder"):
        convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    (tmp_path / "folder" / "notes.txt").unlink()
    convert(tmp_path / "ours.safetensors", tmp_path / "folder", to="diffusers")
    assert load(tmp_path / "folder").config == VIDEO


def test_a_layout_that_is_none_is_named(tmp_path: Path) -> None:
    unchecked = getattr(convert, "__wrapped__", convert)  # below the check of types at run time
    with pytest.raises(InputError, match="to is 'onnx': use 'ours', 'native', 'diffusers'"):
        unchecked(tmp_path, tmp_path / "x", to="onnx")


@contextmanager
def a_disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("to", ["ours", "native", "diffusers"])
def test_a_full_disk_leaves_nothing_half_written(to: Any, randomised: Callable, tmp_path: Path) -> None:  # noqa: ANN401
    save(randomised(WorldModel(VIDEO)), tmp_path / "ours.safetensors")
    with pytest.raises(OSError, match="too large"), a_disk_of(50_000):
        convert(tmp_path / "ours.safetensors", tmp_path / "output", to=to)
    assert os.listdir(tmp_path) == ["ours.safetensors"]


def test_a_folder_whose_second_file_fails_is_not_left(
    randomised: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(randomised(WorldModel(VIDEO)), tmp_path / "ours.safetensors")
    known = os.replace

    def full(source: Path, target: Path) -> None:
        if str(target).endswith("config.json"):
            raise OSError(28, "No space left on device")
        known(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        convert(tmp_path / "ours.safetensors", tmp_path / "output", to="diffusers")
    assert os.listdir(tmp_path) == ["ours.safetensors"]
