"""Embeddings in files: ours and pickled arrays come back, no pickle runs code, and damage is one line."""

import codecs
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cosmos_diffusion.array_pickles import read_arrays
from cosmos_diffusion.embedding_files import Embedding, read_embedding, said_of, write_embedding
from cosmos_tokenizer import InputError

ARRAYS = [np.random.default_rng(0).random((3, 7)).astype(np.float32), np.arange(10, dtype=np.float16).reshape(5, 2)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ours_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "odd \udcff name.safetensors"
    text = torch.randn(5, 8).to(dtype).t()
    write_embedding(path, Embedding(text=text, prompt="a \u2028 b", encoder="t5"))
    back = read_embedding(path)
    assert torch.equal(back.text, text)
    assert (back.prompt, back.encoder) == ("a \u2028 b", "t5")
    assert said_of(path) == ("a \u2028 b", "t5")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_come_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(ARRAYS, protocol=protocol))
    for number, array in enumerate(ARRAYS):
        assert np.array_equal(read_embedding(path, number=number).text.numpy(), array)
    with pytest.raises(InputError, match="holds 2 embeddings, and number 2"):
        read_embedding(path, number=2)


@pytest.mark.parametrize("array", [np.asfortranarray(ARRAYS[0]), ARRAYS[0].astype(">f4")], ids=["columns", "big"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_any_memory_layout_come_back(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps([array], protocol=protocol))
    assert np.array_equal(read_embedding(path).text.numpy(), ARRAYS[0])


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_names_of_older_and_newer_numpy_are_known(core: bytes) -> None:
    data, found = re.subn(rb"numpy\._?core\.multiarray", core, pickle.dumps(ARRAYS, protocol=2))
    assert found
    assert np.array_equal(read_arrays(data)[0], ARRAYS[0])


class Evil:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (Evil(os.mkdir, "owned"), "asks for posix.mkdir"),
        (Evil(eval, "__import__('os').mkdir('owned')"), r"asks for \w+\.eval"),
        (Evil(np.load, "owned"), "asks for numpy"),
        (Evil(codecs.encode, "owned", "rot13"), "asks for text as 'rot13'"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 5])
def test_no_code_of_a_pickle_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Evil, says: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        read_arrays(pickle.dumps([ARRAYS[0], call], protocol=protocol))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("held", [{"a": ARRAYS[0]}, [1.5], "text", [np.array(["words"])], [np.array([None])]])
def test_pickles_of_something_else_are_named(held: object) -> None:
    with pytest.raises(InputError, match="something else"):
        read_arrays(pickle.dumps(held))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_every_cut_of_a_pickle_is_named(protocol: int) -> None:
    data = pickle.dumps(ARRAYS, protocol=protocol)
    for length in range(len(data)):
        with pytest.raises(InputError):
            read_arrays(data[:length])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (torch.randn(2, 3, 4), r"float32 of shape \(2, 3, 4\)"),
        (torch.randn(3, 0), r"float32 of shape \(3, 0\)"),
        (torch.arange(12).view(3, 4), "int64"),
        (torch.tensor([[1.0, float("nan")]]), "not finite"),
    ],
)
def test_tensors_that_are_no_embedding_are_named(tmp_path: Path, text: torch.Tensor, says: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"text": text}, path)
    with pytest.raises(InputError, match=rf"x\.safetensors: .*{says}"):
        read_embedding(path)


def test_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="no such file"):
        read_embedding(path)
    write_embedding(path, Embedding(text=torch.randn(3, 4), prompt="a"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_embedding(path)
    assert said_of(path) == (None, None)
    path.write_bytes(whole.replace(b'"version":"1"', b'"version":"2"'))
    with pytest.raises(InputError, match="version '2'"):
        read_embedding(path)
    save_file({"weight": torch.randn(3, 4)}, path)
    with pytest.raises(InputError, match="no tensor 'text'"):
        read_embedding(path)
    assert said_of(path) == (None, None)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="truncated or damaged pickle"):
        read_embedding(path)
