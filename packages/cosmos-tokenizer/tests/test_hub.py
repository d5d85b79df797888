"""Hub ids: which files are fetched, which network they hold, and what is said where there is no hub."""

import builtins
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load, save
from cosmos_tokenizer.conversion import convert
from cosmos_tokenizer.diffusers_layout import WEIGHTS_FILE as DIFFUSERS
from cosmos_tokenizer.hub import preset_of
from cosmos_tokenizer.native import to_native

NAME = "org/name"
VIDEO = replace(PRESETS["cv8x8x8-0.1"], channels=4, channel_multipliers=(1, 2, 3), encoder_blocks=1, decoder_blocks=2)


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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Hub"]:
    """A hub of one repository, and an empty cache; nothing here reaches the network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    made = Hub(tmp_path / "repository", tmp_path / "cache" / f"models--{NAME.replace('/', '--')}")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield made
    # Whatever else may have been asked of the hub, a whole repository never is.
    assert not any("*" in pattern for patterns in made.asked for pattern in patterns)


class Hub:
    """What this package calls of huggingface_hub, over two folders."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache = repository, cache
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self.failed_download: Exception | None = None

    def put(self, *names: str, by: Callable[[Path], object]) -> None:
        for name in names:
            (self.repository / name).parent.mkdir(parents=True, exist_ok=True)
            by(self.repository / name)

    def junk(self, *names: str) -> None:
        self.put(*names, by=lambda path: path.write_bytes(b"of something else"))

    def model_info(self, repository: str, *, timeout: float) -> SimpleNamespace:
        assert timeout > 0
        if self.failure is not None:
            raise self.failure
        files = [path for path in sorted(self.repository.rglob("*")) if path.is_file()]
        names = [str(path.relative_to(self.repository)) for path in files]
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])

    def snapshot_download(self, repository: str, *, allow_patterns: list[str]) -> str:
        if self.failed_download is not None:
            raise self.failed_download
        self.asked.append(allow_patterns)
        snapshot = self.cache / "snapshots" / "c0ffee"
        for name in allow_patterns:
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.repository / name, snapshot / name)
        (self.cache / "refs").mkdir(exist_ok=True)
        (self.cache / "refs" / "main").write_text("c0ffee")
        return str(snapshot)


def _ours(hub: Hub, model: CausalTokenizer) -> None:
    hub.put("model.safetensors", by=lambda path: save(model, path))


def _diffusers(hub: Hub, model: CausalTokenizer, folder: str = "") -> None:
    save(model, "whole.safetensors")
    convert("whole.safetensors", hub.repository / folder, to="diffusers")


def _native(hub: Hub, model: CausalTokenizer, *names: str) -> None:
    weights = to_native(model, "both")
    for name in names:
        halves = {"encoder.jit": ("encoder.", "quant_"), "decoder.jit": ("decoder.", "post_")}.get(name, ("",))
        hub.put(name, by=lambda path, halves=halves: torch.save(_starting(weights, halves), path))
    statistics = torch.arange(80.0).view(16, 5), torch.ones(16, 5)
    hub.put("mean_std.pt", by=lambda path: torch.save(statistics, path))


def _starting(weights: dict[str, torch.Tensor], prefixes: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in weights.items() if key.startswith(prefixes)}


# Name of a repository's kind to what puts it there, what is fetched, and what lies beside it and is not.
KINDS: dict[str, tuple[Callable[[Hub, CausalTokenizer], None], set[str], tuple[str, ...]]] = {
    "ours": (_ours, {"model.safetensors"}, ("README.md", "other.safetensors", "encoder.jit")),
    "diffusers": (_diffusers, {DIFFUSERS, "config.json"}, ("transformer/model.safetensors", "model.fp16.pt")),
    "pipeline": (
        partial(_diffusers, folder="vae"),
        {f"vae/{DIFFUSERS}", "vae/config.json"},
        (f"transformer/{DIFFUSERS}", "transformer/config.json", "model_index.json", "text/model.safetensors"),
    ),
    "whole jit": (
        lambda hub, model: _native(hub, model, "autoencoder.jit", "encoder.jit", "decoder.jit", "model.pt"),
        {"autoencoder.jit", "mean_std.pt"},
        ("image_model.jit",),
    ),
    "jit pair": (
        lambda hub, model: _native(hub, model, "encoder.jit", "decoder.jit", "model.pt"),
        {"encoder.jit", "decoder.jit", "mean_std.pt"},
        ("autoencoder.jit.md",),
    ),
    "model.pt": (
        lambda hub, model: _native(hub, model, "model.pt"),
        {"model.pt", "mean_std.pt"},
        ("encoder.jit", "old/autoencoder.jit"),
    ),
    "half": (lambda hub, model: _native(hub, model, "encoder.jit"), {"encoder.jit", "mean_std.pt"}, ("decoder.pt",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_just_the_files_of_one_checkpoint_are_fetched_and_then_serve_offline(
    kind: str, hub: Hub, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    put, wanted, beside = KINDS[kind]
    model = random_tokenizer(VIDEO, parts="both")
    put(hub, model)
    hub.junk(*beside)
    loaded = load(NAME)
    assert [set(names) for names in hub.asked] == [wanted]
    assert loaded.fingerprint["encoder"] == model.fingerprint["encoder"]
    assert (loaded.decoder is None) == (kind == "half")
    assert (loaded.statistics is not None) == ("mean_std.pt" in wanted)

    hub.failure = OfflineModeIsEnabled("offline")
    assert load(NAME).fingerprint == loaded.fingerprint
    assert len(hub.asked) == 1


def test_a_repository_without_a_checkpoint_says_what_was_looked_for(hub: Hub) -> None:
    hub.junk("README.md", "config.json", "mean_std.pt", "transformer/model.safetensors", "vae/config.json")
    with pytest.raises(InputError, match=f"^{NAME} on the hub holds no checkpoint: .* encoder.jit and decoder.jit,"):
        load(NAME)
    assert hub.asked == []


@pytest.mark.parametrize(
    "failure",
    [
        OfflineModeIsEnabled("Cannot reach the hub\nand more"),
        OSError("Cannot reach the hub"),
        # As of an HTTP library of some version, which is no OSError.
        type("ConnectError", (Exception,), {})("Cannot reach the hub"),
    ],
)
def test_without_the_hub_and_its_files_it_is_one_line(failure: Exception, hub: Hub) -> None:
    (hub.cache / "refs").mkdir(parents=True)
    (hub.cache / "refs" / "main").write_text("c0ffee")
    snapshot = hub.cache / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    hub.failure = failure
    with pytest.raises(InputError, match=f"no file or folder {NAME}, and the hub .*: Cannot reach the hub$"):
        load(NAME)


def test_a_download_that_breaks_off_leaves_what_the_cache_held(
    hub: Hub, random_tokenizer: Callable[..., CausalTokenizer]
) -> None:
    _ours(hub, random_tokenizer(VIDEO))
    hub.failed_download = OSError("connection lost")
    with pytest.raises(InputError, match=": connection lost$"):
        load(NAME)
    hub.failed_download = None
    load(NAME)
    hub.failed_download = OSError("connection lost")
    assert load(NAME).config == VIDEO


def test_an_id_that_the_hub_cannot_have_is_one_line(hub: Hub) -> None:
    hub.failure = HFValidationError("Cannot have -- or .. in repo_id")
    with pytest.raises(InputError, match="no file or folder org/na--me, .*: Cannot have -- or"):
        load("org/na--me")


def test_the_repository_says_what_shapes_cannot(hub: Hub, random_tokenizer: Callable[..., CausalTokenizer]) -> None:
    config = replace(PRESETS["ci8x8-0.1"], channels=32, channel_multipliers=(1, 1, 1), encoder_blocks=1, norm_groups=16)
    _native(hub, random_tokenizer(config), "autoencoder.jit")
    (hub.repository / "mean_std.pt").unlink()
    with pytest.raises(InputError, match="the preset"):
        load("nvidia/Cosmos-Tokenize1-DI16x16-360p")
    assert load("someone/copy").config.norm_groups == 32
    assert load("someone/copy", preset=config).config.norm_groups == 16


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
