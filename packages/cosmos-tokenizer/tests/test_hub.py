"""Hub ids: which files are fetched, which network they hold, and what is said where there is no hub."""

import builtins
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load
from cosmos_tokenizer.hub import preset_of
from cosmos_tokenizer.native import to_native


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("nvidia/Cosmos-0.1-Tokenizer-CI8x8", "ci8x8-0.1"),
        ("nvidia/Cosmos-0.1-Tokenizer-CV4x8x8", "cv4x8x8-0.1"),
        ("nvidia/Cosmos-1.0-Tokenizer-CV8x8x8", "cv8x8x8-720p"),
        ("nvidia/Cosmos-Tokenize1-DV8x16x16-720p", "dv8x16x16-720p"),
        ("nvidia/Cosmos-Tokenize1-DI16x16-360p", "di16x16-360p"),
    ],
)
def test_a_released_repository_is_a_preset(repository: str, name: str) -> None:
    assert preset_of(repository) is PRESETS[name]


def test_any_other_repository_is_none() -> None:
    assert preset_of("someone/nano-cv4x8x8") is None


def test_the_repository_says_what_shapes_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    config = replace(PRESETS["ci8x8-0.1"], channels=32, channel_multipliers=(1, 1, 1), encoder_blocks=1, norm_groups=16)
    asked = {}

    def download(repository: str, allow_patterns: list[str]) -> str:
        asked[repository] = allow_patterns
        torch.save(to_native(random_tokenizer(config), "both"), tmp_path / "autoencoder.jit")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    repository = "nvidia/Cosmos-Tokenize1-DI16x16-360p"
    with pytest.raises(InputError, match="the preset"):
        load(repository)
    assert load("someone/copy").config.norm_groups == 32
    assert load("someone/copy", preset=config).config.norm_groups == 16
    assert "autoencoder.jit" in asked[repository]
    assert not any(pattern.startswith("*") or pattern == "encoder.jit" for pattern in asked[repository])


def test_a_hub_that_does_not_answer_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, allow_patterns: list[str]) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("Cannot reach the hub\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no file or folder org/name, and the hub .*: Cannot reach the hub$"):
        load("org/name")


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def absent(name: str, *args: object) -> object:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return known(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cosmos-tokenizer\[hub\]"):
        load("org/name")
