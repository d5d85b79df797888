"""Which implementation runs, what is said when a kernel cannot, and that triton waits until it is asked for."""

import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch._subclasses import FakeTensorMode

from cosmos_tokenizer import InputError, backend, fsq, haar


@pytest.fixture(autouse=True)
def _outside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backend._say_that_triton_is_absent.cache_clear()
    yield
    backend._say_that_triton_is_absent.cache_clear()


@pytest.fixture
def triton_is(monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a switch that makes triton seem installed, or absent."""
    return lambda installed: monkeypatch.setattr(backend, "_INSTALLED", installed)


def on(device: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor without memory, so that the device need not be here."""
    with FakeTensorMode():
        return torch.empty(1, device=device, dtype=dtype)


def test_auto_is_the_kernel_on_a_gpu_and_the_reference_elsewhere(triton_is: object) -> None:
    triton_is(True)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert backend.use_triton("auto", on("cuda:1", dtype))
    assert not backend.use_triton("auto", on("cuda", torch.float64))
    assert not backend.use_triton("auto", on("cpu"))
    assert not backend.use_triton("auto", on("mps"))
    assert not backend.use_triton("reference", on("cuda"))


def test_auto_without_triton_says_so_once_and_runs_the_reference(triton_is: object) -> None:
    triton_is(False)
    with pytest.warns(UserWarning, match="pip install triton"):
        assert not backend.use_triton("auto", on("cuda"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not backend.use_triton("auto", on("cuda"))
        assert not backend.use_triton("auto", on("cpu"))


def test_a_named_backend_that_is_absent_says_what_to_install(triton_is: object) -> None:
    triton_is(False)
    with pytest.raises(InputError, match="not installed: pip install triton"):
        backend.use_triton("triton", on("cuda"))


def test_a_named_backend_that_cannot_run_names_what_stands_in_the_way(triton_is: object) -> None:
    triton_is(True)
    x = torch.zeros(1, 3, 1, 4, 4)
    for call in (
        lambda: haar.patch(x, patch_size=4, media="video", backend="triton"),
        lambda: haar.unpatch(torch.zeros(1, 8, 1, 2, 2), patch_size=2, media="video", backend="triton"),
        lambda: fsq.quantize(x, (5, 5, 5), backend="triton"),
        lambda: fsq.codes_and_indices(x, (5, 5, 5), backend="triton"),
    ):
        with pytest.raises(InputError, match="needs a CUDA tensor, and this one is on cpu"):
            call()
    with pytest.raises(InputError, match=r"not torch\.float64"):
        backend.use_triton("triton", on("cuda", torch.float64))


def test_an_unknown_backend_is_named() -> None:
    unchecked = inspect.unwrap(backend.use_triton)  # a run with checked types would refuse it earlier
    with pytest.raises(InputError, match="'cuda' is unknown: give 'auto', 'reference' or 'triton'"):
        unchecked("cuda", on("cpu"))


def test_triton_is_imported_by_kernels_alone() -> None:
    code = (
        "import sys, torch\n"
        "from cosmos_tokenizer import fsq, haar\n"
        "haar.patch(torch.zeros(1, 3, 1, 4, 4), patch_size=4, media='video')\n"
        "fsq.codes_and_indices(torch.zeros(1, 2, 1, 2, 2), (5, 5))\n"
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
