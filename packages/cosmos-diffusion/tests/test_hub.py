"""Hub ids of world models: which files of a repository are fetched, in shards or not, and what a cache gives."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from cosmos_diffusion import PRESETS
from cosmos_diffusion.checkpoint import load, save
from cosmos_diffusion.conversion import convert
from cosmos_diffusion.native_layout import to_native
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

NAME, TEXT = "org/name", PRESETS["toy"]


class Hub:
    """What is called of huggingface_hub, over two folders; it can be cut off."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository = repository
        self.snapshot = cache / f"models--{NAME.replace('/', '--')}" / "snapshots" / "c0ffee"
        self.asked: list[str] = []
        self.gone = False

    def model_info(self, repository: str, *, timeout: float) -> SimpleNamespace:
        if self.gone:
            raise ConnectionError("no route")
        files = [path for path in sorted(self.repository.rglob("*")) if path.is_file()]
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=str(path.relative_to(self.repository))) for path in files]
        )

    def snapshot_download(self, repository: str, *, allow_patterns: list[str]) -> str:
        self.asked = allow_patterns
        for name in allow_patterns:
            (self.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.repository / name, self.snapshot / name)
        refs = self.snapshot.parents[1] / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text("c0ffee")
        return str(self.snapshot)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub of one repository with the rest of a pipeline in it, and an empty cache: nothing reaches the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    made = Hub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    for name in (
        "README.md",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/a.safetensors",
    ):
        (made.repository / name).parent.mkdir(parents=True, exist_ok=True)
        (made.repository / name).write_bytes(b"of something else")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return made


def _native(hub: Hub, model: WorldModel, oracle: Callable) -> None:
    torch.save(to_native(model.config, model.state_dict()), hub.repository / "model.pt")


def _whole(hub: Hub, model: WorldModel, oracle: Callable) -> None:
    save(model, "ours.safetensors")
    convert("ours.safetensors", hub.repository / "transformer", to="diffusers")


def _shards(hub: Hub, model: WorldModel, oracle: Callable) -> None:
    oracle(TEXT).save_pretrained(hub.repository / "transformer", max_shard_size="100KB")


def _ours(hub: Hub, model: WorldModel, oracle: Callable) -> None:
    save(model, hub.repository / "model.safetensors")


@pytest.mark.parametrize("put", [_native, _whole, _shards, _ours])
def test_a_repository_gives_its_world_model_and_nothing_else(
    put: Callable, hub: Hub, randomised: Callable, oracle: Callable
) -> None:
    put(hub, randomised(WorldModel(TEXT)), oracle)
    loaded = load(NAME)
    assert loaded.config == TEXT
    folder = "transformer/" if put in (_whole, _shards) else ""
    there = {str(path.relative_to(hub.repository)) for path in hub.repository.glob(f"{folder}*") if path.is_file()}
    assert set(hub.asked) == there - {"README.md"}
    hub.gone = True
    again = load(NAME)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_what_the_hub_does_not_have_is_named(hub: Hub) -> None:
    with pytest.raises(InputError, match="holds no checkpoint: looked for model.safetensors, or .*in its transformer/"):
        load(NAME)
    hub.gone = True
    with pytest.raises(InputError, match="the hub did not give such a repository: no route"):
        load(NAME)


def test_a_missing_extra_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r'pip install "cosmos-diffusion\[hub\]"'):
        load(NAME)
