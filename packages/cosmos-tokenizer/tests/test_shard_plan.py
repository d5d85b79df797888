"""What a folder of shards says of itself, damaged in every way: a line that names it, or a shard that is made again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, read_shards, save
from cosmos_tokenizer.cli import main
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.shard_plan import read_manifest
from cosmos_tokenizer.shards import write_shards

HEAD = {"format": "cosmos-tokenizer shards", "version": 1, "model": "m", "fingerprint": {}, "options": {}}
FIGURES = {"samples": 1, "bytes": 9, "sha256": "0", "skipped": [{"source": "a", "reason": "b"}]}
ROW = {"name": "shard-000000.tar", "clips": [{"key": "a", "source": "a.png", "content": "1 a"}]}
WHOLE = HEAD | {"shards": [ROW | FIGURES]}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


DAMAGED = (
    [without(WHOLE, name) for name in WHOLE]
    + [WHOLE | {name: wrong} for name in ("fingerprint", "options", "shards", "model") for wrong in (None, 3, [[]])]
    + [HEAD | {"shards": [without(ROW | FIGURES, name)]} for name in ROW | FIGURES if name != "bytes"]
    + [HEAD | {"shards": [ROW | FIGURES | {name: None}]} for name in ROW | FIGURES]
    + [HEAD | {"shards": [ROW | {"clips": [wrong]}]} for wrong in (None, {}, {"key": "a", "content": "1 a"})]
    + [HEAD | {"shards": [ROW | FIGURES | {"skipped": [wrong]}]} for wrong in (None, {}, {"source": "a"})]
    + [[], None, "text"]
)


@pytest.mark.parametrize("manifest", DAMAGED, ids=json.dumps)
def test_a_damaged_manifest_is_one_line(manifest: object, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for read in (read_manifest, read_shards):
        with pytest.raises(InputError, match=r"manifest\.json: is not a manifest of shards, or is damaged") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_manifest_of_a_later_format_is_told_by_its_version(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": HEAD["format"], "version": 2, "rows": []}))
    with pytest.raises(InputError, match="has shard format 2, and 1 is read; update the package"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_sound_is_read_whole_or_begun(tmp_path: Path) -> None:
    for manifest in (WHOLE, HEAD | {"shards": [ROW]}):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        assert read_manifest(tmp_path) == manifest


@pytest.fixture
def folder(tmp_path: Path, gradients: Callable[..., np.ndarray]) -> Path:
    """One picture and a model."""
    torch.manual_seed(0)
    save(CausalTokenizer(PRESETS["toy"]), tmp_path / "toy.safetensors")
    (tmp_path / "clips").mkdir()
    write_image(tmp_path / "clips" / "a.png", gradients(1, 17, 20)[0])
    return tmp_path


@pytest.mark.parametrize(
    "figures", ["[]", "{}", "{", "3", '{"bytes": %d}', '{"bytes": %d, "samples": 1, "sha256": "", "skipped": [{}]}']
)
def test_a_shard_whose_figures_are_damaged_is_made_again(figures: str, folder: Path) -> None:
    def again() -> int:
        return write_shards(folder / "clips", folder / "out", folder / "toy.safetensors").kept

    again()
    (shard, path) = folder / "out" / "shard-000000.tar", folder / "out" / "manifest.json"
    whole, manifest = path.read_bytes(), json.loads(path.read_text())
    rows = [{"name": row["name"], "clips": row["clips"]} for row in manifest["shards"]]
    path.write_text(json.dumps(manifest | {"shards": rows}))
    text = figures % shard.stat().st_size if "%" in figures else figures
    (folder / "out" / "shard-000000.tar.json").write_text(text)
    assert again() == 0
    assert path.read_bytes() == whole


def test_the_command_ends_with_a_line_about_a_damaged_manifest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        "encode",
        str(folder / "clips"),
        str(folder / "out"),
        "--shards",
        "--model",
        str(folder / "toy.safetensors"),
    ]
    assert main(line) == 0
    path = folder / "out" / "manifest.json"
    path.write_text(json.dumps(without(json.loads(path.read_text()), "fingerprint")))
    capsys.readouterr()
    assert main(line) == 2
    err = capsys.readouterr().err
    assert "manifest.json: is not a manifest of shards, or is damaged" in err
    assert err.count("\n") == 1
