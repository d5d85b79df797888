"""Token files: what goes in comes out, and what is damaged or foreign is refused in one line."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cosmos_tokenizer import PRESETS, CausalTokenizer, Geometry, InputError
from cosmos_tokenizer.token_files import is_token_file
from cosmos_tokenizer.tokens import Tokens, check_tokens, load_tokens, save_tokens

FINGERPRINT = {"encoder": "e" * 64, "decoder": "d" * 64}


def _tokens(kind: str = "continuous", **changes: object) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    if kind == "continuous":
        values = torch.randn(4, 3, 3, 5, generator=generator)
    else:
        values = torch.randint(0, 64, (3, 3, 5), dtype=torch.int32, generator=generator)
    fields = {
        "values": values,
        "frames": 7,
        "size": (23, 38),
        "rate": Fraction(30000, 1001),
        "geometry": Geometry(temporal=4, spatial=8),
        "fingerprint": FINGERPRINT,
        "model": "some-model",
        "source": "clip.mp4",
    }
    return Tokens(**(fields | changes))


@pytest.fixture
def toy() -> CausalTokenizer:
    return CausalTokenizer(replace(PRESETS["toy"], latent_channels=4))


@pytest.fixture
def discrete_toy() -> CausalTokenizer:
    return CausalTokenizer(replace(PRESETS["toy"], kind="discrete", levels=(4, 4, 4), latent_channels=3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), None])
def test_everything_survives_the_file(dtype: torch.dtype, rate: Fraction | None, tmp_path: Path) -> None:
    tokens = _tokens("discrete" if dtype == torch.int32 else "continuous", rate=rate)
    tokens = replace(tokens, values=tokens.values.to(dtype))
    save_tokens(tmp_path / "a.safetensors", tokens)
    read = load_tokens(tmp_path / "a.safetensors")
    assert torch.equal(read.values, tokens.values)
    assert read.values.dtype == dtype
    for name in ("frames", "size", "rate", "geometry", "fingerprint", "model", "source", "kind"):
        assert getattr(read, name) == getattr(tokens, name)
    assert is_token_file(tmp_path / "a.safetensors")


def test_latents_that_are_a_view_are_stored_as_they_look(tmp_path: Path) -> None:
    tokens = _tokens(values=torch.randn(5, 3, 3, 8)[..., ::2].permute(3, 1, 2, 0))
    save_tokens(tmp_path / "a.safetensors", tokens)
    assert torch.equal(load_tokens(tmp_path / "a.safetensors").values, tokens.values)


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_a_file_cut_anywhere_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tokens(path, _tokens(kind))
    whole = path.read_bytes()
    for kept in {0, 1, 7, 8, 9, *range(0, len(whole), 61), len(whole) - 1}:
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"a\.safetensors") as caught:
            load_tokens(path)
        assert "\n" not in str(caught.value)


def test_any_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tokens = _tokens("discrete")
    save_tokens(path, tokens)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    errors: list[str] = []
    for position in random.integers(0, len(whole), 400):
        damaged = bytearray(whole)
        damaged[position] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read = load_tokens(path)
        except InputError as error:
            errors.append(str(error))
        else:
            assert torch.equal(read.values, tokens.values)
    assert len(errors) > 200
    assert not any("\n" in error for error in errors)


def test_a_changed_value_is_caught_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tokens(path, _tokens())
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match="do not match their checksum"):
        load_tokens(path)


def _resaved(path: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: str | None) -> Path:
    header = path.read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    metadata = {k: v for k, v in (metadata | changes).items() if v is not None}
    save_file(tensors or {"latents": load_tokens(path).values}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"format": "other"}, "not a token file"),
        ({"format": None}, "not a token file"),
        ({"version": "3"}, "token format '3'"),
        ({"version": "2"}, "says continuous and holds latents"),
        ({"frames": "9000000000000000000000"}, "do not belong"),
        ({"frames": "13"}, "do not belong to 13 frames"),
        ({"frames": "0"}, "damaged"),
        ({"frames": "many"}, "damaged"),
        ({"width": "47"}, "23x47"),
        ({"height": None}, "height is missing"),
        ({"rate": "1/0"}, "damaged"),
        ({"rate": "-3"}, "rate is -3"),
        ({"temporal": "0"}, "temporal is 0"),
        ({"kind": "discrete"}, "says discrete"),
        ({"fingerprint": "[1]"}, "fingerprint"),
        ({"fingerprint": "{"}, "damaged"),
        ({"sha256": "0"}, "checksum"),
    ],
)
def test_metadata_that_contradicts_the_values_is_refused(
    changes: dict[str, str | None], word: str, tmp_path: Path
) -> None:
    save_tokens(tmp_path / "a.safetensors", _tokens())
    with pytest.raises(InputError, match=word) as caught:
        load_tokens(_resaved(tmp_path / "a.safetensors", **changes))
    assert "a.safetensors" in str(caught.value)


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    values = _tokens().values
    for tensors, word in [
        ({"latents": values, "more": values + 1}, "2 tensors"),
        ({"latents": values.double()}, "F64"),
        ({"weights": values}, "holds weights"),
    ]:
        save_tokens(path, _tokens())
        with pytest.raises(InputError, match=word):
            load_tokens(_resaved(path, tensors))
    save_tokens(path, _tokens(values=values * float("nan")))
    with pytest.raises(InputError, match="not finite"):
        load_tokens(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "weights.safetensors").write_bytes(b"")
    save_file({"w": torch.zeros(2)}, tmp_path / "weights.safetensors")
    for name, word in [("none", "no such file"), ("", "is a folder"), ("text.safetensors", "not a token file")]:
        with pytest.raises(InputError, match=word):
            load_tokens(tmp_path / name)
    with pytest.raises(InputError, match="not a token file"):
        load_tokens(tmp_path / "weights.safetensors")
    assert not is_token_file(tmp_path / "weights.safetensors")
    assert not is_token_file(tmp_path / "none")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_tokens(tmp_path / "file" / "a.safetensors", _tokens())
    assert os.listdir(tmp_path) == ["file"]


def test_the_makers_tokens_are_accepted(toy: CausalTokenizer, discrete_toy: CausalTokenizer) -> None:
    for model, kind in ((toy, "continuous"), (discrete_toy, "discrete")):
        geometry = model.geometry
        check_tokens(_tokens(kind, geometry=geometry, fingerprint=model.fingerprint), model)


Change = Callable[[CausalTokenizer], dict[str, object]]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: {"values": _tokens("discrete").values}, "discrete model .* this model is continuous"),
        (lambda m: {"geometry": Geometry(temporal=16, spatial=8)}, "16x8x8"),
        (lambda m: {"values": torch.zeros(5, 3, 3, 5)}, "5 channels .* this model has 4"),
        (lambda m: {"fingerprint": m.fingerprint | {"encoder": "0" * 64}}, "another model .*encoder 000000000000"),
        (lambda m: {"fingerprint": {"encoder": None, "decoder": "1" * 64}}, "another model .*decoder 111111111111"),
    ],
)
def test_foreign_tokens_are_refused(change: Change, word: str, toy: CausalTokenizer) -> None:
    tokens = _tokens(**({"geometry": toy.geometry, "fingerprint": toy.fingerprint} | change(toy)))
    with pytest.raises(InputError, match=word):
        check_tokens(tokens, toy)


@pytest.mark.parametrize(("bad", "word"), [(-1, "index -1"), (64, "index 64"), (10**6, "index 1000000")])
def test_indices_out_of_range_are_named_with_the_range(bad: int, word: str, discrete_toy: CausalTokenizer) -> None:
    tokens = _tokens("discrete", geometry=discrete_toy.geometry, fingerprint=discrete_toy.fingerprint)
    tokens.values[1, 2, 3] = bad
    with pytest.raises(InputError, match=rf"{word} .* from 0 to 63"):
        check_tokens(tokens, discrete_toy)


def test_halves_are_compared_only_where_both_are_known(toy: CausalTokenizer) -> None:
    decoder_only = {"encoder": None, "decoder": toy.fingerprint["decoder"]}
    of_encoder = _tokens(geometry=toy.geometry, fingerprint={"encoder": "0" * 64, "decoder": None})
    check_tokens(of_encoder, toy, fingerprint=decoder_only)
    with pytest.raises(InputError, match="another model"):
        check_tokens(of_encoder, toy)


def test_a_change_of_dtype_needs_the_fingerprint_from_before(toy: CausalTokenizer) -> None:
    fingerprint = toy.fingerprint
    tokens = _tokens(geometry=toy.geometry, fingerprint=fingerprint)
    check_tokens(tokens, toy.bfloat16(), fingerprint=fingerprint)
