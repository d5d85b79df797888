"""Devices by name: those of this machine, and one line for every other."""

import pytest
import torch

from cosmos_tokenizer import InputError, load
from cosmos_tokenizer.devices import available_device


def test_a_device_that_is_here_is_given_back() -> None:
    assert available_device("cpu") == torch.device("cpu")
    assert available_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    "name",
    [
        f"cuda:{torch.cuda.device_count()}",
        "cuda:99",
        "cuda:-1",
        "cuda:99999999999",
        "privateuseone",
        "hpu",
        "hip",
        "meta",
        "abacus",
        "cpu:x",
        "",
    ],
)
def test_any_other_is_one_line_with_the_name_and_what_there_is(name: str) -> None:
    with pytest.raises(InputError, match=f"^device is '{name}', .*: use one of cpu[^\n]*$"):
        available_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="device is 'cuda', .* use one of cpu$"):
        available_device("cuda")


def test_the_devices_of_an_accelerator_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(InputError, match="use one of cpu, cuda:0, cuda:1$"):
        available_device("abacus")


def test_a_device_that_is_full_is_not_called_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(torch.OutOfMemoryError):
        available_device("cpu")


def test_load_looks_at_the_device_before_it_reads_anything() -> None:
    with pytest.raises(InputError, match="device is 'abacus'"):
        load("no/such/file.safetensors", device="abacus")
