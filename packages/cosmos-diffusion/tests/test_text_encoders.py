"""Text encoders: the conformance check catches what it should, bytes and files conform."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_diffusion.embedding_files import Embedding, write_embedding
from cosmos_diffusion.text_encoders import (
    ByteEncoder,
    ByteEncoderConfig,
    PrecomputedEncoder,
    TextEncoder,
    check_text_encoder,
)
from cosmos_diffusion.text_encoders.byte_encoder import byte_values
from cosmos_diffusion.text_encoders.padding import padded, trimmed
from cosmos_tokenizer import InputError

CONFIG = ByteEncoderConfig(width=24, length=40, layers=2, heads=3)


class Fake:
    """Counts letters; with a fault where one is named."""

    width, length = 5, 7

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def encode(self, prompts: Sequence[str], /) -> Tensor:
        text = torch.zeros(len(prompts), self.length, self.width)
        for row, prompt in zip(text, prompts, strict=True):
            words = prompt.split()[: self.length]
            for place, word in enumerate(words):
                row[place] = torch.arange(1, 6) * len(word) + place
            if self.fault == "batch":
                row[: len(words)] += len(prompts)
            if self.fault == "padding":
                row[len(words) :] = 0.5
            if self.fault == "infinite":
                row[0, 0] = torch.inf
            if self.fault == "hole" and len(words) > 2:
                row[1] = 0
            if self.fault == "blind":
                row[:] = 0
                row[: 1 + len(words) % 2] = 1
            if self.fault == "empty":
                row[:] = 0
        return text[:, :-1] if self.fault == "shape" else text.long() if self.fault == "whole" else text


def test_what_conforms_passes() -> None:
    assert isinstance(Fake(), TextEncoder)
    check_text_encoder(Fake())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("batch", "other prompts"),
        ("infinite", "not finite"),
        ("hole", "zeros stand inside"),
        ("blind", "one embedding"),
        ("empty", "all zeros"),
        ("shape", "was to be expected"),
        ("whole", "no floats"),
        ("padding", "padding is not zeroed"),
    ],
)
def test_what_does_not_conform_is_named(fault: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_text_encoder(Fake(fault))


def test_bytes_conform(randomised) -> None:
    encoder = randomised(ByteEncoder(CONFIG))
    assert isinstance(encoder, TextEncoder)
    check_text_encoder(encoder, prompts=("ein Würfel fällt", "a", "日本" * 30))


def test_no_prompt_is_all_zeros(randomised) -> None:
    encoder = randomised(ByteEncoder(CONFIG))
    text = encoder.encode(["", "a ball", ""])
    assert text.shape == (3, 40, 24)
    assert not text[[0, 2]].any()
    assert len(trimmed(text[1])) == 6
    assert not encoder.encode(["", ""]).any()
    assert encoder.encode([]).shape == (0, 40, 24)


def test_long_prompts_are_cut_and_bytes_tell_apart(randomised) -> None:
    encoder = randomised(ByteEncoder(CONFIG))
    with torch.no_grad():
        one, cut, other = encoder.encode(["x" * 39 + "y" + "z" * 9, "x" * 39 + "y", "x" * 39 + "z"])
    assert torch.equal(one, cut)
    assert not torch.equal(cut, other)
    assert torch.equal(cut[:39], other[:39])


def test_order_matters(randomised) -> None:
    encoder = randomised(ByteEncoder(replace(CONFIG, layers=1)))  # a second would see order by what is hidden from whom
    with torch.no_grad():
        encoder.layers[0].qkv.weight.mul_(8)  # lest all be looked at alike
        one, other = encoder.encode(["abcx", "bacx"])
    assert (one[3] - other[3]).abs().max() > 1e-3


def test_bytes_of_any_text_are_read() -> None:
    values = byte_values(["é", "", "\udcff"], 5)
    assert values.tolist() == [[195, 169, 256, 256, 256], [256] * 5, [237, 179, 191, 256, 256]]


def test_gradients_reach_every_weight_of_the_byte_encoder() -> None:
    encoder = ByteEncoder(CONFIG)
    encoder.encode(["a ball", "falls"]).square().sum().backward()
    encoder.encode(["other words"]).sum().backward()
    for name, value in encoder.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().sum() > 0, name


def test_config_comes_back_from_its_fields() -> None:
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    assert ByteEncoderConfig.from_dict(fields) == CONFIG


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 0}, "width is 0"),
        ({"length": "40"}, "length is '40'"),
        ({"heads": True}, "heads is True"),
        ({"heads": 5}, "5 heads of even width"),
        ({"heads": 8}, "8 heads of even width"),
        ({"depth": 3}, "depth"),
    ],
)
def test_configs_that_cannot_be_are_named(change: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ByteEncoderConfig.from_dict({"width": 24, "length": 40, "layers": 2, "heads": 3} | change)


def test_padding_goes_on_and_off() -> None:
    texts = [torch.randn(3, 4), torch.randn(9, 4), torch.zeros(0, 4)]
    batch = padded(texts, 6)
    assert batch.shape == (3, 6, 4)
    assert torch.equal(trimmed(batch[0]), texts[0])
    assert torch.equal(trimmed(batch[1]), texts[1][:6])
    assert trimmed(batch[2]).shape == (0, 4)
    narrow = torch.tensor([[0.0, 1], [2, 0], [0, 0]])
    assert torch.equal(trimmed(narrow), narrow[:2])


def test_files_of_ours_conform(tmp_path: Path) -> None:
    prompts = ["two boxes", "a ball", "a seesaw"]
    for number, prompt in enumerate(prompts):
        write_embedding(tmp_path / f"{number}.safetensors", Embedding(text=torch.randn(3 + number, 8), prompt=prompt))
    encoder = PrecomputedEncoder(tmp_path, length=11)
    check_text_encoder(encoder, prompts=prompts)
    assert set(encoder.prompts) == set(prompts)
    assert encoder.encode([]).shape == (0, 11, 8)
    assert torch.equal(encoder.encode([" a ball\n"]), encoder.encode(["a ball"]))
    check_text_encoder(PrecomputedEncoder(tmp_path, length=4), prompts=prompts)


def test_pickles_find_their_captions(tmp_path: Path) -> None:
    (tmp_path / "t5_xxl").mkdir()
    (tmp_path / "metas").mkdir()
    arrays = {"one": np.random.rand(2, 6).astype(np.float32), "two": np.random.rand(5, 6).astype(np.float16)}
    for name, array in arrays.items():
        (tmp_path / "metas" / f"{name}.txt").write_text(f"caption {name}\n")
        (tmp_path / "t5_xxl" / f"{name}.pickle").write_bytes(pickle.dumps([array]))
    (tmp_path / "t5_xxl" / "orphan.pickle").write_bytes(b"never read")
    encoder = PrecomputedEncoder(tmp_path / "t5_xxl", length=8)
    assert encoder.prompts == ("caption one", "caption two")
    assert np.array_equal(trimmed(encoder.encode(["caption two"])[0]).numpy(), arrays["two"])


def test_unknown_prompts_and_odd_widths_are_named(tmp_path: Path) -> None:
    write_embedding(tmp_path / "a.safetensors", Embedding(text=torch.randn(3, 8), prompt="a"))
    write_embedding(tmp_path / "b.safetensors", Embedding(text=torch.randn(3, 9), prompt="b"))
    encoder = PrecomputedEncoder(tmp_path)
    assert (encoder.width, encoder.length) == (8, 512)
    with pytest.raises(InputError, match="no embedding of 'c'"):
        encoder.encode(["a", "c"])
    with pytest.raises(InputError, match=r"b\.safetensors: its embedding is 9 wide"):
        encoder.encode(["a", "b"])
    with pytest.raises(InputError, match="no such file or folder"):
        PrecomputedEncoder(tmp_path / "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no embedding whose prompt is known"):
        PrecomputedEncoder(tmp_path / "empty")
