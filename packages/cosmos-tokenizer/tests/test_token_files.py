"""Token files of long clips: written and read part by part, the same tokens as in one piece, whole or not at all."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_tokenizer import Geometry, InputError, token_files
from cosmos_tokenizer.token_files import TokenInfo, TokenReader, is_token_file, token_writer
from cosmos_tokenizer.tokens import load_tokens

INFO = TokenInfo(
    frames=41,
    size=(23, 38),
    rate=Fraction(24),
    geometry=Geometry(temporal=4, spatial=8),
    fingerprint={"encoder": "e" * 64, "decoder": None},
    model="some-model",
    source="clip.mp4",
)
VALUES = {
    "latents": torch.randn(4, 11, 3, 5, generator=torch.Generator().manual_seed(0)),
    "indices": torch.arange(11 * 15, dtype=torch.int32).view(11, 3, 5),
}
ONE = {"latents": 4 * 15 * 4, "indices": 15 * 4}
"""Bytes of one latent frame."""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a writer of token files whose parts hold `latent_frames` at most."""

    def run(values: torch.Tensor, cuts: list[int], latent_frames: int, info: TokenInfo = INFO) -> Path:
        one = values.narrow(-3, 0, 1).nbytes
        monkeypatch.setattr(token_files, "PART_BYTES", latent_frames * one)
        with token_writer(tmp_path / "a.safetensors") as writer:
            for piece in values.split(cuts, dim=-3):
                writer.push(piece)
                assert writer.nbytes <= latent_frames * one
            writer.finish(info)
        return tmp_path / "a.safetensors"

    return run


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(
    ("cuts", "latent_frames", "parts"),
    [
        ([1] * 11, 3, [3, 3, 3, 2]),
        ([1, 4, 4, 2], 5, [5, 4, 2]),
        ([1, 4, 4, 2], 4, [1, 4, 4, 2]),
        ([3, 3, 3, 2], 4, [3, 3, 3, 2]),
        ([1, 4, 4, 2], 99, [11]),
        ([11], 3, [11]),
    ],
)
def test_tokens_in_parts_are_the_tokens_in_one_piece(
    kind: str, cuts: list[int], latent_frames: int, parts: list[int], write: Write
) -> None:
    values = VALUES[kind]
    path = write(values, cuts, latent_frames)
    reader = TokenReader(path)
    assert [part.shape[-3] for part in reader.parts()] == parts
    assert (reader.shape, reader.dtype) == (tuple(values.shape), values.dtype)
    assert torch.equal(torch.cat(list(reader.parts()), dim=-3), values)
    read = load_tokens(path)
    assert torch.equal(read.values, values)
    assert (read.frames, read.size, read.rate, read.fingerprint) == (41, (23, 38), 24, INFO.fingerprint)
    assert is_token_file(path)
    names = [kind] if len(parts) == 1 else [f"{kind}.{index:05}" for index in range(len(parts))]
    assert sorted(load_file(path)) == names  # any safetensors reader takes it
    assert os.listdir(path.parent) == ["a.safetensors"]


@pytest.mark.parametrize("cuts", [{}, {"window": 16}, {"tile": 64}, {"window": 2, "tile": 8}])
def test_what_was_cut_from_the_encoders_view_is_recorded(cuts: dict[str, int], write: Write) -> None:
    info = TokenReader(write(VALUES["latents"], [1] * 11, 3, replace(INFO, **cuts))).info
    assert (info.window, info.tile) == (cuts.get("window"), cuts.get("tile"))


def test_one_part_is_in_memory_at_a_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TokenReader(write(VALUES["latents"], [1] * 11, 2))
    read = []
    real = token_files.opened
    monkeypatch.setattr(token_files, "opened", lambda path: read.append(path) or real(path))
    parts = reader.parts()
    next(parts)
    assert len(read) == 1
    next(parts)
    assert len(read) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, OSError])
def test_a_stream_that_fails_in_the_middle_leaves_what_was_there(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "PART_BYTES", 1)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(error), token_writer(path) as writer:  # noqa: PT012
        for piece in VALUES["latents"].split(1, dim=1):
            writer.push(piece)
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_tokens_that_nobody_finished_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not finished"), token_writer(tmp_path / "a.safetensors") as writer:
        writer.push(VALUES["latents"])
    assert os.listdir(tmp_path) == []


def test_a_damaged_part_is_refused_where_it_is_met(write: Write) -> None:
    path = write(VALUES["latents"], [1] * 11, 3)
    raw = bytearray(path.read_bytes())
    raw[-ONE["latents"] * 4] ^= 1  # in the third part of four
    path.write_bytes(raw)
    parts = TokenReader(path).parts()
    assert next(parts).shape == next(parts).shape == (4, 3, 3, 5)
    with pytest.raises(InputError, match="a.safetensors: is damaged .*checksum"):
        next(parts)
    with pytest.raises(InputError, match="checksum"):
        load_tokens(path)


def test_latents_of_a_part_that_are_not_finite_are_refused(write: Write) -> None:
    values = VALUES["latents"].clone()
    values[1, 10, 0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        load_tokens(write(values, [1] * 11, 3))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_file_in_parts_that_was_cut_is_refused(kept: float, write: Write) -> None:
    path = write(VALUES["latents"], [1] * 11, 3)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match="truncated or damaged"):
        TokenReader(path)


Change = Callable[[dict[str, torch.Tensor], dict[str, str]], object]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t, m: t.pop("latents.00002"), "holds latents.00000"),
        (lambda t, m: t.pop("latents.00003"), "do not belong to 41 frames|checksums"),
        (lambda t, m: t.update({"latents.00001": t["latents.00001"][..., :4]}), "shapes"),
        (lambda t, m: t.update({"latents.00001": t["latents.00001"].half()}), "F16 and F32"),
        (lambda t, m: t.update({"latents.00001": t["latents.00000"].clone()}), "checksum"),
        (lambda t, m: m.update(sha256=m["sha256"][:64]), "4 tensors and 1 checksums"),
        (lambda t, m: m.update(version="1"), "holds 4 tensors"),
        (lambda t, m: m.update(frames="45"), "do not belong to 45 frames"),
        (lambda t, m: m.update(kind="discrete"), "says discrete"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: Change, word: str, write: Write) -> None:
    path = write(VALUES["latents"], [1] * 11, 3)
    header = path.read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    tensors = {name: values.clone() for name, values in load_file(path).items()}
    change(tensors, metadata)
    save_file({name: values.contiguous() for name, values in tensors.items()}, path, metadata)
    with pytest.raises(InputError, match=word):
        load_tokens(path)


def test_a_still_has_no_rate(write: Write) -> None:
    info = replace(INFO, frames=1, rate=None)
    assert TokenReader(write(VALUES["indices"][:1], [1], 3, info)).info.rate is None
