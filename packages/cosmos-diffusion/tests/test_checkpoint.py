"""``load`` and ``save``: our own files, what is wrong with files, and where weights stay."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cosmos_diffusion import PRESETS
from cosmos_diffusion.checkpoint import load, save
from cosmos_diffusion.native_layout import to_native
from cosmos_diffusion.sources import find
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

VIDEO = PRESETS["toy-video"]
OTHER = replace(
    VIDEO, position="sincos", views=3, trajectory_channels=4, camera_channels=6, action_numbers=7, prediction="flow"
)


@pytest.fixture
def model(randomised: Callable) -> WorldModel:
    return randomised(WorldModel(VIDEO))


def same(left: WorldModel, right: WorldModel) -> bool:
    """Equal configs, dtypes and bits."""
    ours, theirs = left.state_dict(), right.state_dict()
    return (
        left.config == right.config
        and ours.keys() == theirs.keys()
        and all(ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [VIDEO, OTHER], ids=["video", "all else"])
def test_what_is_saved_is_loaded(randomised: Callable, config: object, dtype: torch.dtype, tmp_path: Path) -> None:
    model = randomised(WorldModel(config)).to(dtype)
    save(model, tmp_path / "new" / "model.safetensors")
    again = load(tmp_path / "new")
    assert not again.training
    assert same(again, model)
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_an_untrained_uncertainty_is_not_stored_and_comes_back(model: WorldModel, tmp_path: Path) -> None:
    weights = to_native(model.config, model.state_dict())
    torch.save({name: value for name, value in weights.items() if name.startswith("net.")}, tmp_path / "model.pt")
    first = load(tmp_path / "model.pt")
    save(first, tmp_path / "ours.safetensors")
    small = (tmp_path / "ours.safetensors").stat().st_size
    assert same(load(tmp_path / "ours.safetensors"), first)
    torch.nn.init.normal_(first.uncertainty.linear.weight)
    save(first, tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").stat().st_size > small + 3 * 4 * 128
    assert same(load(tmp_path / "ours.safetensors"), first)


def test_a_narrower_storage_gives_back_the_models_own_dtype(model: WorldModel, tmp_path: Path) -> None:
    save(model, tmp_path / "half.safetensors", storage=torch.float16)
    loaded = load(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 2.5 * sum(p.numel() for p in model.parameters())
    for name, value in model.net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], value.half().float()), name
    assert torch.equal(loaded.uncertainty.frequencies, model.uncertainty.frequencies)


def test_a_dtype_is_of_the_network(model: WorldModel, tmp_path: Path) -> None:
    save(model, tmp_path / "model.safetensors")
    loaded = load(tmp_path, dtype=torch.bfloat16)
    assert {value.dtype for value in loaded.net.state_dict().values()} == {torch.bfloat16}
    assert torch.equal(loaded.uncertainty.phases, model.uncertainty.phases)


def test_a_mixed_file_runs_in_the_finest_dtype_but_for_its_positions(model: WorldModel, tmp_path: Path) -> None:
    weights = to_native(model.config, {name: value.bfloat16() for name, value in model.state_dict().items()})
    torch.save(weights | {"net.extra_pos_embedder.pos_emb_h": model.net.position.h}, tmp_path / "model.pt")
    loaded = load(tmp_path)
    assert loaded.net.dtype == torch.bfloat16
    assert torch.equal(loaded.net.position.h, model.net.position.h)
    with torch.no_grad():
        y = loaded.net(torch.randn(1, 16, 2, 4, 4), torch.zeros(1), torch.zeros(1, 3, 32), fps=24)
    assert y.dtype == torch.bfloat16
    torch.save(weights | {"net.affline_norm.weight": model.net.noise.norm.weight}, tmp_path / "model.pt")
    assert {value.dtype for value in load(tmp_path).net.state_dict().values()} >= {torch.float32}


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs /proc/self/maps")
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_weights_stay_in_the_file_and_the_network_is_never_built_twice(
    name: str, model: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    if name == "model.pt":
        torch.save(to_native(model.config, model.state_dict()), path)
    else:
        save(model, path)
    built = list[str]()
    known = torch.nn.Linear.reset_parameters

    def watched(layer: torch.nn.Linear) -> None:
        built.append(layer.weight.device.type)
        known(layer)

    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", watched)
    loaded = load(path)
    assert set(built) == {"meta"}
    assert len(built) == sum(isinstance(layer, torch.nn.Linear) for layer in loaded.modules())
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    for key, value in loaded.state_dict().items():
        assert any(start <= value.data_ptr() < end for start, end in ranges), key
    with torch.no_grad():  # training writes into its own copy
        loaded.net.last.weight.zero_()
    assert same(load(path), model)


def test_a_failed_save_leaves_what_was_there(
    model: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"before")

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save(model, path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_saved_file_is_readable_as_others_are(model: WorldModel, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    save(model, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode
    odd = tmp_path / os.fsdecode(b"\xff")
    save(model, odd / "model.safetensors")
    assert same(load(odd), model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "2"}, "version '2'"),
        ({"config": "{"}, "holds no config"),
        ({"config": "[1]"}, r"holds no config, but \[1\]"),
        ({"config": json.dumps(asdict(VIDEO) | {"depth": 3})}, "depth"),
        ({"config": json.dumps(asdict(VIDEO) | {"width": "wide"})}, "width is wide"),
        ({"config": json.dumps(asdict(VIDEO) | {"blocks": 1 << 20})}, "1048576 blocks, and it holds"),
        ({"config": json.dumps(asdict(VIDEO) | {"blocks": 3})}, r"net\.blocks\.2\..* is missing"),
        ({"config": json.dumps(asdict(VIDEO) | {"mlp_ratio": 3.0})}, r"up\.weight has shape \(192, 48\)"),
        ({"dtype": "int8"}, "dtype 'int8'"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(change: dict, says: str, model: WorldModel, tmp_path: Path) -> None:
    metadata = {"format": "cosmos-diffusion", "version": "1", "config": json.dumps(asdict(VIDEO))} | change
    save_file(model.state_dict(), tmp_path / "model.safetensors", metadata)
    with pytest.raises(InputError, match=says):
        load(tmp_path)


def test_a_config_for_our_file_must_be_its_own(model: WorldModel, tmp_path: Path) -> None:
    save(model, tmp_path / "model.safetensors")
    assert load(tmp_path, config="toy-video").config == VIDEO
    with pytest.raises(InputError, match="condition_mask False, and the file True"):
        load(tmp_path, config="toy")


@pytest.mark.parametrize("kept", [0, 4, 100, 30_000, -1])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_truncated_file_is_one_line(name: str, kept: int, model: WorldModel, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "model.pt":
        torch.save(to_native(model.config, model.state_dict()), path)
    else:
        save(model, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model\.\w+: (the file is empty|not a checkpoint|a truncated)") as e:
        load(path)
    assert "\n" not in str(e.value)


def test_what_is_no_world_model_is_named(tmp_path: Path) -> None:
    save_file({"encoder.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="no world model known here: its first key is encoder.weight"):
        load(tmp_path / "a.safetensors")
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(InputError, match="holds no tensors by name"):
        load(tmp_path / "b.pt")


def test_a_device_that_is_not_here_is_named(model: WorldModel, tmp_path: Path) -> None:
    save(model, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="device is 'abacus'"):
        load(tmp_path, device="abacus")


def test_shipped_weights_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"7b-text2world is a preset without weights .*shipped: "):
        find("7b-text2world")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "nano-x.safetensors").write_bytes(b"x")
    monkeypatch.setattr("cosmos_diffusion.sources.resources.files", lambda package: tmp_path)
    assert find("nano-x") == tmp_path / "weights" / "nano-x.safetensors"
    with pytest.raises(InputError, match=r"there is no file or folder nano-y, .*\(nano-x\)"):
        find("nano-y")


def test_a_folder_is_searched_for_one_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no checkpoint"):
        find(tmp_path)
    for name in ("b.pt", "a.safetensors", "model.pt", "diffusion_pytorch_model.safetensors", "model.safetensors"):
        (tmp_path / name).touch()
        assert find(tmp_path) == tmp_path / name
    (tmp_path / "several").mkdir()
    for name in ("iter_9_reg_model.pt", "iter_9_ema_model.pt"):
        (tmp_path / "several" / name).touch()
    with pytest.raises(InputError, match="several checkpoints: name one of iter_9_ema_model.pt, iter_9_reg_model.pt"):
        find(tmp_path / "several")
    assert find(tmp_path / "several" / "iter_9_ema_model.pt").name == "iter_9_ema_model.pt"
