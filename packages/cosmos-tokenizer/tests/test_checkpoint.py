"""``load`` and ``save``: every layout that exists, told apart by content."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, LatentStatistics, TokenizerConfig, load, save
from cosmos_tokenizer.native import to_native
from cosmos_tokenizer.sources import find

Maker = Callable[..., CausalTokenizer]
Write = Callable[[dict[str, Tensor], str], Path]

VIDEO = replace(PRESETS["cv8x8x8-0.1"], channels=4, channel_multipliers=(1, 2, 3), encoder_blocks=1, decoder_blocks=1)
DISCRETE = replace(PRESETS["dv8x16x16-0.1"], channels=4, encoder_blocks=1, decoder_blocks=2)
IMAGE = replace(PRESETS["di16x16-360p"], channels=4, encoder_blocks=1, decoder_blocks=2)
CONFIGS = {"video": VIDEO, "discrete": DISCRETE, "image": IMAGE}


def same(left: CausalTokenizer, right: CausalTokenizer) -> bool:
    """Equal configs, dtypes and bits."""
    ours, theirs = left.state_dict(), right.state_dict()
    bits = ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )
    return bits and left.config == right.config


def encoder_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.startswith(("encoder.", "quant_conv."))}


def decoder_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.startswith(("decoder.", "post_quant_conv."))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", ["both", "encoder", "decoder"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_is_saved_is_loaded(
    config: TokenizerConfig, parts: str, dtype: torch.dtype, tmp_path: Path, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(config, parts=parts).to(dtype)
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors").train()
    assert same(again, model)
    assert again.fingerprint == model.fingerprint
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert not load(tmp_path).training


def test_statistics_travel_in_float32(tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(VIDEO).bfloat16()
    model.statistics = LatentStatistics(torch.randn(16, 5), torch.rand(16, 5) + 0.1)
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", dtype=torch.float16)
    assert again.dtype == torch.float16
    assert torch.equal(again.statistics.mean, model.statistics.mean)
    assert torch.equal(again.statistics.std, model.statistics.std)


def test_a_failed_save_leaves_what_was_there(
    tmp_path: Path, random_tokenizer: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"before")

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        save(random_tokenizer(VIDEO, parts="encoder"), path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_native_state_dict_is_read_whatever_its_suffix(
    config: TokenizerConfig, tmp_path: Path, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(config).bfloat16()
    weights = to_native(model, "both")
    torch.save(weights, tmp_path / "a.jit")
    torch.save(weights, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    save_file(weights, tmp_path / "c.pt")
    for name in ("a.jit", "b.ckpt", "c.pt"):
        assert same(load(tmp_path / name), model)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_torchscript_is_read_with_its_buffers(
    config: TokenizerConfig, scripted: Write, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(config).bfloat16()
    video = "3d" if config.media == "video" else ""
    buffers = {
        f"encoder.patcher{video}.wavelets": torch.rand(2),
        f"encoder.patcher{video}._arange": torch.arange(2),
        f"encoder.patcher{video}.patch_size_buffer": torch.tensor([config.patch_size]),
        f"decoder.unpatcher{video}.wavelets": torch.rand(2),
    }
    if config.levels:
        buffers["quantizer._levels"] = torch.tensor(config.levels, dtype=torch.int32)
        buffers["quantizer.implicit_codebook"] = torch.zeros(9, 6)
    assert same(load(scripted(to_native(model, "both") | buffers, "autoencoder.pt")), model)


def test_a_pair_and_a_folder_of_torchscript_are_one_network(
    tmp_path: Path, scripted: Write, random_tokenizer: Maker
) -> None:
    model = random_tokenizer(DISCRETE)
    weights = to_native(model, "both")
    levels = torch.tensor(DISCRETE.levels, dtype=torch.int32)
    encoder = scripted(encoder_of(weights) | {"quantizer._levels": levels}, "folder/encoder.jit")
    decoder = scripted(decoder_of(weights) | {"inv_quant.quantizer._levels": levels}, "folder/decoder.jit")
    (tmp_path / "folder" / "config.json").write_text('{"architectures": ["CausalVideoTokenizer"]}')
    assert same(load((encoder, decoder)), model)
    assert same(load((str(decoder), str(encoder))), model)
    assert same(load(tmp_path / "folder"), model)
    (tmp_path / "cut.jit").write_bytes(decoder.read_bytes()[:-100])
    with pytest.raises(InputError, match=r": cut.jit: .*truncated"):
        load((encoder, tmp_path / "cut.jit"))
    assert load(encoder).fingerprint == {"encoder": model.fingerprint["encoder"], "decoder": None}
    assert load(decoder).fingerprint == {"encoder": None, "decoder": model.fingerprint["decoder"]}


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@pytest.mark.parametrize("layout", ["ours", "native"])
def test_a_pair_of_the_same_half_is_refused(layout: str, half: str, tmp_path: Path, random_tokenizer: Maker) -> None:
    paths = tmp_path / "a", tmp_path / "b"
    for seed, path in enumerate(paths):
        model = random_tokenizer(VIDEO, parts=half, seed=seed)
        save(model, path) if layout == "ours" else torch.save(to_native(model, half), path)
    with pytest.raises(InputError, match=f"both files hold the {half}: give one"):
        load(paths)


def test_a_pair_of_our_layout_is_one_network(tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(VIDEO)
    halves = {half: random_tokenizer(VIDEO, parts=half) for half in ("encoder", "decoder")}
    for half, part in halves.items():
        part.load_state_dict({name: x for name, x in model.state_dict().items() if name.startswith(half)})
        save(part, tmp_path / half)
    assert same(load((tmp_path / "encoder", tmp_path / "decoder")), model)
    save(random_tokenizer(replace(VIDEO, decoder_blocks=2), parts="decoder"), tmp_path / "other")
    torch.save(to_native(halves["decoder"], "decoder"), tmp_path / "native")
    for other, message in (("other", "halves of two networks"), ("native", "layout of this package and the other")):
        with pytest.raises(InputError, match=message):
            load((tmp_path / "encoder", tmp_path / other))
        with pytest.raises(InputError, match=message):
            load((tmp_path / other, tmp_path / "encoder"))


def test_statistics_beside_a_native_file_are_its_own(tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(VIDEO)
    mean, std = torch.randn(16, 3), torch.rand(16, 3) + 0.1
    torch.save(to_native(model, "both"), tmp_path / "net.pt")
    torch.save((mean.flatten(), std.flatten().bfloat16()), tmp_path / "mean_std.pt")
    for source in (tmp_path, tmp_path / "net.pt"):
        assert torch.equal(load(source).statistics.mean, mean)
        assert torch.equal(load(source).statistics.std, std.bfloat16().float())


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((torch.zeros(15), torch.ones(15)), "15 values .* 16 latent channels"),
        ((torch.zeros(32), torch.ones(16)), "16 values"),
        ((torch.zeros(32), torch.zeros(32)), "non-positive"),
        ((torch.full((16,), torch.nan), torch.ones(16)), "NaN"),
        ([torch.zeros(16)], r"\(mean, std\)"),
    ],
)
def test_statistics_of_another_network_are_refused(
    pair: object, message: str, tmp_path: Path, random_tokenizer: Maker
) -> None:
    torch.save(to_native(random_tokenizer(VIDEO, parts="decoder"), "decoder"), tmp_path / "decoder.pt")
    torch.save(pair, tmp_path / "mean_std.pt")
    with pytest.raises(InputError, match=f"decoder.pt: mean_std.pt beside it: .*{message}"):
        load(tmp_path / "decoder.pt")


def test_a_training_checkpoint_gives_its_averaged_weights(tmp_path: Path, random_tokenizer: Maker) -> None:
    current, averaged = random_tokenizer(DISCRETE, seed=1), random_tokenizer(DISCRETE, seed=2)
    entry = {f"network.{name}": value for name, value in to_native(current, "both").items()}
    copies = {f"ema.network-{n.replace('.', '-')}": value for n, value in to_native(averaged, "both").items()}
    rest = {"optimizer": {"state": {}}, "scheduler": {}, "grad_scaler": {}, "iteration": 10}
    torch.save({"model": entry | copies} | rest, tmp_path / "model.pt")
    assert same(load(tmp_path), averaged)
    torch.save({"model": entry} | rest, tmp_path / "model.pt")
    assert same(load(tmp_path / "model.pt"), current)


def test_mixed_types_load_in_the_widest(tmp_path: Path, random_tokenizer: Maker) -> None:
    weights = to_native(random_tokenizer(VIDEO), "both")
    first = next(iter(weights))
    weights[first] = weights[first].bfloat16()
    torch.save(weights, tmp_path / "model.pt")
    assert {value.dtype for value in load(tmp_path / "model.pt").state_dict().values()} == {torch.float32}


def test_a_half_says_what_it_cannot_do(tmp_path: Path, random_tokenizer: Maker) -> None:
    torch.save(to_native(random_tokenizer(VIDEO, parts="encoder"), "encoder"), tmp_path / "encoder.pt")
    half = load(tmp_path / "encoder.pt")
    assert half.encode(torch.zeros(1, 3, 9, 16, 16)).shape == (1, 16, 2, 2, 2)
    with pytest.raises(InputError, match="encoder only"):
        half.decode(torch.zeros(1, 16, 2, 2, 2))


@pytest.mark.parametrize("name", ["nano-cv4x8x8", "nano-dv4x8x8", "ci8x8-360p", "cv8x16x16-0.1"])
def test_a_half_loaded_alone_has_the_fingerprint_it_has_in_the_whole(
    name: str, tmp_path: Path, random_tokenizer: Maker
) -> None:
    # Blocks and multipliers of no released net: what one half of the file guesses of the other is wrong.
    config = replace(PRESETS[name], channels=8, channel_multipliers=(1,) * len(PRESETS[name].widths), norm_groups=1)
    model = random_tokenizer(replace(config, encoder_blocks=3, decoder_blocks=1))
    weights = to_native(model, "both")
    torch.save(encoder_of(weights), tmp_path / "encoder.pt")
    torch.save(decoder_of(weights), tmp_path / "decoder.pt")
    encoder, decoder = load(tmp_path / "encoder.pt"), load(tmp_path / "decoder.pt")
    assert encoder.config != model.config != decoder.config
    assert encoder.fingerprint == {"encoder": model.fingerprint["encoder"], "decoder": None}
    assert decoder.fingerprint == {"encoder": None, "decoder": model.fingerprint["decoder"]}


def test_shipped_weights_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "nano-cv4x8x8.safetensors").write_bytes(b"x")
    monkeypatch.setattr("cosmos_tokenizer.sources.resources.files", lambda package: tmp_path)
    assert find("nano-cv4x8x8").files == (tmp_path / "weights" / "nano-cv4x8x8.safetensors",)
    with pytest.raises(InputError, match=r"shipped: nano-cv4x8x8"):
        find("toy")


def test_a_narrower_storage_gives_back_the_models_own_dtype(tmp_path: Path, random_tokenizer: Maker) -> None:
    model = random_tokenizer(PRESETS["toy"])
    save(model, tmp_path / "half.safetensors", storage=torch.float16)
    loaded = load(tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 2.5 * sum(p.numel() for p in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
