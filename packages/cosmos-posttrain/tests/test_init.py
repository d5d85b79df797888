"""`train --init`: from every layout that `load` takes, training begins with the weights of the file, in float32."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from cosmos_posttrain.cli import main
from cosmos_posttrain.data import Stream, open_source
from cosmos_posttrain.recipes import RECIPES, overridden, tokenizer
from cosmos_tokenizer import PRESETS, CausalTokenizer, TokenizerConfig, convert, load, save
from cosmos_tokenizer.native import to_native

VIDEO = replace(PRESETS["cv8x8x8-0.1"], channels=4, encoder_blocks=1, decoder_blocks=2)
IMAGE = replace(PRESETS["ci8x8-360p"], channels=4, encoder_blocks=1, decoder_blocks=2, norm_groups=1)
DISCRETE = replace(PRESETS["dv4x8x8-360p"], channels=4, encoder_blocks=1, decoder_blocks=2)
CHANGES = (
    *("data.crop=32", "data.sides=[32]", "validation_clips=0", "loop.steps=1", "loop.averages=[]"),
    *("loop.optimizer.rate=1e-5", 'loop.schedule={"warmup": 0}'),
)
LATENTS_MEAN_AND_STD = [torch.zeros(16 * 2), torch.ones(16 * 2)]


class Node(nn.Module):
    """A module of a tree that holds tensors and computes nothing."""

    __module__ = "native_tree"  # TorchScript takes no module name with a hyphen, as this file's folder has one.


def scripted(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a TorchScript file whose state dict is this one."""
    root = Node()
    for name, value in weights.items():
        *parents, leaf = name.split(".")
        node: nn.Module = root
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, Node())
            node = node.get_submodule(parent)
        node.register_buffer(leaf, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(root), str(path))


def state_dict(model: CausalTokenizer, folder: Path) -> Path:
    torch.save(to_native(model, "both") | {"encoder.patcher3d.wavelets": torch.rand(2)}, folder / "model.pt")
    return folder / "model.pt"


def training_checkpoint(model: CausalTokenizer, folder: Path) -> Path:
    """The weights are the averaged ones; beside them stand those of the last step."""
    weights = to_native(model, "both")
    averaged = {f"ema.network-{name.replace('.', '-')}": value for name, value in weights.items()}
    last = {f"network.{name}": torch.zeros_like(value) for name, value in weights.items()}
    torch.save({"model": averaged | last, "iteration": 7}, folder / "iter_7.pt")
    return folder / "iter_7.pt"


def torchscript(model: CausalTokenizer, folder: Path) -> Path:
    scripted(to_native(model, "both"), folder / "autoencoder.jit")
    return folder / "autoencoder.jit"


def released_folder(model: CausalTokenizer, folder: Path) -> Path:
    """A file a half, and statistics of the latents beside them."""
    weights = to_native(model, "both")
    for half, own in (("encoder", ("encoder.", "quant_conv.")), ("decoder", ("decoder.", "post_quant_conv."))):
        part = {name: value for name, value in weights.items() if name.startswith(own)}
        scripted(part, folder / f"{half}.jit")
    torch.save(LATENTS_MEAN_AND_STD, folder / "mean_std.pt")
    return folder


def diffusers(model: CausalTokenizer, folder: Path) -> Path:
    save(model, folder / "ours.safetensors")
    [made] = convert(folder / "ours.safetensors", folder / "vae", to="diffusers")
    return made


Write = Callable[[CausalTokenizer, Path], Path]


@pytest.fixture(autouse=True)
def few_clips_give_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "STATISTICS_CLIPS", 4)


def train(init: Path, data: Path, out: Path, *changes: str) -> int:
    given = [f"--set={change}" for change in (*CHANGES, *changes)]
    return main(["train", "tokenizer-toy", "--init", str(init), "--data", str(data), "--out", str(out), *given])


@pytest.mark.parametrize(
    ("config", "write"),
    [
        *((VIDEO, write) for write in (training_checkpoint, torchscript, released_folder, diffusers)),
        (DISCRETE, state_dict),
    ],
    ids=lambda value: value.__name__ if callable(value) else value.kind,
)
def test_training_begins_with_the_weights_of_the_file(
    config: TokenizerConfig, write: Write, small_pool: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    given = write(CausalTokenizer(config).to(torch.bfloat16), tmp_path)  # as released files are
    assert train(given, small_pool, tmp_path / "run") == 0
    start, made = load(given, dtype=torch.float32), load(tmp_path / "run/model.safetensors")
    assert made.config == start.config == config
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    recipe = overridden(RECIPES["tokenizer-toy"], CHANGES)
    video = next(Stream(open_source(small_pool), recipe.data)).video
    with torch.no_grad():
        assert rows[0]["loss"] == pytest.approx((start(video) - video).abs().mean().item(), rel=1e-5)
    moved = 0
    parameters = dict(made.named_parameters())
    for name, value in start.named_parameters():
        change = (parameters[name] - value).abs()
        assert change.max() < 2e-5
        moved += int((change > 0).sum())
    # A step of that size is lost in bfloat16 weights, but for those near 0.
    assert moved > 0.9 * sum(value.numel() for value in parameters.values())


def test_an_image_tokenizer_is_trained_on_single_frames(
    small_pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = state_dict(CausalTokenizer(IMAGE), tmp_path)
    assert train(given, small_pool, tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.endswith("model.pt: is an image tokenizer, and data.frames is (9,): set data.frames=[1]\n")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert train(given, small_pool, tmp_path / "run", "data.frames=[1]") == 0
    assert load(tmp_path / "run/model.safetensors").config == IMAGE


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_one_half_is_refused(
    half: Literal["encoder", "decoder"], small_pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(to_native(CausalTokenizer(VIDEO, parts=half), half), tmp_path / "half.pt")
    assert train(tmp_path / "half.pt", small_pool, tmp_path / "run") == 2
    assert capsys.readouterr().err.endswith("half.pt: holds one half only, and training takes both\n")
    assert not (tmp_path / "run").exists()


def test_a_linear_start_leaves_a_given_checkpoint_as_it_is(small_pool: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(CausalTokenizer(PRESETS["toy"]), tmp_path / "given.safetensors")
    changes = ("start=pca", "loop.optimizer.rate=1e-12")
    assert train(tmp_path / "given.safetensors", small_pool, tmp_path / "run", *changes) == 0
    given, made = (load(tmp_path / name).state_dict() for name in ("given.safetensors", "run/model.safetensors"))
    for name, value in given.items():
        torch.testing.assert_close(made[name], value, atol=1e-9, rtol=0)
