"""``load`` of what is no checkpoint, or a damaged one, or is not there: one clear line."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load, save
from cosmos_tokenizer.native import to_native

Maker = Callable[..., CausalTokenizer]
Write = Callable[[dict[str, Tensor], str], Path]

VIDEO = replace(PRESETS["cv8x8x8-0.1"], channels=4, channel_multipliers=(1, 2, 3), encoder_blocks=1, decoder_blocks=1)


def written(tmp_path: Path, layout: str, model: CausalTokenizer, scripted: Write) -> Path:
    weights = to_native(model, "both")
    if layout == "ours":
        save(model, tmp_path / "whole")
    elif layout == "torchscript":
        scripted(weights, "whole")
    else:
        torch.save(weights, tmp_path / "whole", _use_new_zipfile_serialization=layout == "zip")
    return tmp_path / "whole"


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.003, 0.5, 0.999])
@pytest.mark.parametrize("layout", ["ours", "zip", "pickle", "torchscript"])
def test_a_truncated_file_is_one_clear_line(
    layout: str, share: float, tmp_path: Path, scripted: Write, random_tokenizer: Maker
) -> None:
    whole = written(tmp_path, layout, random_tokenizer(VIDEO), scripted).read_bytes()
    path = tmp_path / "cut.bin"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="empty|truncated|damaged|not a checkpoint") as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


class _Harmful:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _Harmful()}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="more than tensors"):
        load(tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Harmful(), protocol=2))
    with pytest.raises(InputError, match="more than tensors"):
        load(tmp_path / "plain.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"just some text, no weights", "not a checkpoint"),
        (b"PK\x03\x04 no archive", "truncated or damaged torch file"),
        (b"\x10\0\0\0\0\0\0\0{not json at all ", "damaged safetensors"),
    ],
)
def test_a_file_of_something_else_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"blocks.0.weight": torch.zeros(3)}, "no tokenizer known here: its first key is blocks.0.weight"),
        ({}, "no tensors"),
        ([torch.zeros(3)], "no tensors"),
        ({"decoder.mid_block.resnets.0.norm1.norm.bias": torch.zeros(3)}, "config.json beside"),
    ],
)
def test_tensors_of_something_else_are_refused(held: object, message: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen", "nan"])
def test_our_layout_names_the_key_that_is_wrong(change: str, tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(VIDEO, parts="encoder")
    path, key = tmp_path / "model.safetensors", "encoder.mid.block_1.conv2.temporal.bias"
    weights = dict(model.state_dict())
    if change == "missing":
        del weights[key]
    elif change == "unexpected":
        weights[key := key + "2"] = torch.zeros(3)
    elif change == "misshapen":
        weights[key] = torch.zeros(99)
    else:
        weights[key] = weights[key] * torch.nan
    save(model, path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(weights, path, metadata)
    with pytest.raises(InputError, match=f"key {key} "):
        load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"version": "2", "config": "{}"}, "version '2'"),
        ({"version": "1"}, "no config"),
        ({"version": "1", "config": "{"}, "no config"),
        ({"version": "1", "config": '{"media": "video"}'}, "not a tokenizer config"),
        ({"version": "1", "config": "[]"}, "no config"),
    ],
)
def test_our_layout_without_a_sound_config_is_refused(metadata: dict[str, str], message: str, tmp_path: Path) -> None:
    save_file({"encoder.x": torch.zeros(1)}, tmp_path / "m.safetensors", {"format": "cosmos-tokenizer"} | metadata)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "m.safetensors")


def test_a_preset_may_not_contradict_our_layout(tmp_path: Path, random_tokenizer: Maker) -> None:
    save(random_tokenizer(VIDEO, parts="decoder"), tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors", preset="cv8x8x8-720p").config == VIDEO
    with pytest.raises(InputError, match="kind discrete, and the file continuous"):
        load(tmp_path / "m.safetensors", preset="dv8x8x8-0.1")
    with pytest.raises(InputError, match="preset is 'cv9x9x9': use one of ci8x8-0.1"):
        load(tmp_path / "m.safetensors", preset="cv9x9x9")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/file.safetensors", "no file or folder no/such/file.safetensors"),
        ("./model", "no file or folder"),
        ("nano-other", r"shipped weights \("),
        ("cv8x8x8-720p", "preset without weights"),
        (("a.jit", "b.jit"), "no file a.jit"),
    ],
)
def test_a_source_that_is_not_there_is_named(
    source: str | tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load(source)


def test_a_folder_without_one_checkpoint_says_what_was_expected(tmp_path: Path, random_tokenizer: Maker) -> None:
    with pytest.raises(InputError, match="holds no checkpoint: expected autoencoder.jit"):
        load(tmp_path)
    model = random_tokenizer(VIDEO, parts="decoder")
    for name in ("a.safetensors", "b.safetensors"):
        save(model, tmp_path / name)
    with pytest.raises(InputError, match="several checkpoints: name one of a.safetensors, b.safetensors"):
        load(tmp_path)
