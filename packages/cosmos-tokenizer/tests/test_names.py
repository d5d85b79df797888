"""File names as systems allow them: bytes that are no UTF-8, and as many of them as fit."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, load, save, tensor_files
from cosmos_tokenizer.atomic import partial, write_whole
from cosmos_tokenizer.cli import main
from cosmos_tokenizer.conversion import convert
from cosmos_tokenizer.jsontext import readable, to_json
from cosmos_tokenizer.token_files import is_token_file
from cosmos_tokenizer.tokens import load_tokens
from cosmos_tokenizer.video import Video, write_video

ODD = os.fsdecode(b"clip-\xff.mp4")
LONGEST = "\N{CLAPPER BOARD}" * 60 + ".safetensors"  # 252 of the 255 bytes that a name may have


def test_text_that_utf8_cannot_hold_is_spelt_out_and_all_other_is_kept() -> None:
    assert readable(ODD) == r"clip-\udcff.mp4"
    assert readable("Grüße \N{CLAPPER BOARD}.mp4") == "Grüße \N{CLAPPER BOARD}.mp4"
    assert json.loads(to_json({ODD: [ODD]})) == {r"clip-\udcff.mp4": [r"clip-\udcff.mp4"]}


def test_a_clip_whose_name_is_no_utf8_goes_through_every_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gradients: Callable[..., np.ndarray],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cosmos_tokenizer.progress.PERIOD", 0.0)
    save(CausalTokenizer(PRESETS["toy"]), "toy.safetensors")
    write_video("clip.mp4", Video(frames=gradients(3, 16, 16), rate=Fraction(24)))
    os.mkdir("clips")
    os.rename("clip.mp4", f"clips/{ODD}")
    for line in ("encode clips tokens", "decode tokens back", "reconstruct clips again", "evaluate clips --out scores"):
        assert main([*line.split(), "--model", "toy.safetensors", "--json"]) == 0, capsys.readouterr().err
        json.loads(capsys.readouterr().out.splitlines()[-1])
    [token_file] = Path("tokens").iterdir()
    assert load_tokens(token_file).source == r"clip-\udcff.mp4"
    assert os.listdir("back") == os.listdir("again") == [ODD]


def test_checkpoints_of_such_names_are_read(tmp_path: Path) -> None:
    model = CausalTokenizer(PRESETS["toy"])
    save(model, tmp_path / os.fsdecode(b"\xff.safetensors"))
    torch.save(model.state_dict(), tmp_path / os.fsdecode(b"\xff.pt"))
    assert load(tmp_path / os.fsdecode(b"\xff.safetensors")).fingerprint == model.fingerprint
    assert tensor_files.read(tmp_path / os.fsdecode(b"\xff.pt"))[0].keys() == model.state_dict().keys()
    assert not is_token_file(tmp_path / os.fsdecode(b"\xff.none"))


def test_a_name_of_many_bytes_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / LONGEST, b"data")
    assert (tmp_path / LONGEST).read_bytes() == b"data"
    assert os.listdir(tmp_path) == [LONGEST]


def test_a_folder_of_many_bytes_is_written(tmp_path: Path) -> None:
    net = replace(PRESETS["cv8x8x8-0.1"], channels=4, channel_multipliers=(1, 2, 3), encoder_blocks=2, decoder_blocks=3)
    save(CausalTokenizer(net), tmp_path / "net.safetensors")
    convert(tmp_path / "net.safetensors", tmp_path / "out" / LONGEST, to="diffusers")
    assert os.listdir(tmp_path / "out") == [LONGEST]


def test_a_name_of_too_many_bytes_is_a_plain_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        write_whole(tmp_path / ("\N{CLAPPER BOARD}" * 80), b"data")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert os.listdir(tmp_path) == []


def test_two_targets_never_share_a_partial_name() -> None:
    assert partial(Path(LONGEST)) != partial(Path("\N{CLAPPER BOARD}" + LONGEST))
    assert partial(Path(ODD)) == partial(Path(ODD))
