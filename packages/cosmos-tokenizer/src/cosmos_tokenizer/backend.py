"""Which implementation of an operation runs: its plain torch definition, or the Triton kernel beside it."""

import importlib.util
import os
import warnings
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from cosmos_tokenizer.errors import InputError

Backend = Literal["auto", "reference", "triton"]

# Looked up here, since torch.compile cannot trace the look-up.
_INSTALLED = importlib.util.find_spec("triton") is not None
_KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def use_triton(backend: Backend, x: Tensor) -> bool:
    """Whether an operation on ``x`` runs as a kernel.

    ``auto`` takes the kernel for a CUDA tensor of float32, float16 or bfloat16 where triton is installed (else it
    warns, once), and the reference for all others. A kernel that is named runs on CPU tensors in Triton's interpreter,
    where that is on (``TRITON_INTERPRET=1``).

    Raises:
        InputError: ``triton`` was named and cannot run here.
    """
    if backend == "auto":
        wanted = x.device.type == "cuda" and x.dtype in _KERNEL_DTYPES
        if wanted and not _INSTALLED and not torch.compiler.is_compiling():
            _say_that_triton_is_absent()
        return wanted and _INSTALLED
    if backend == "reference":
        return False
    if backend != "triton":
        raise InputError(f"backend {backend!r} is unknown: give 'auto', 'reference' or 'triton'")
    if not _INSTALLED:
        raise InputError("backend 'triton' is not installed: pip install triton, or give backend='reference'")
    if x.dtype not in _KERNEL_DTYPES:
        raise InputError(f"backend 'triton' takes float32, float16 or bfloat16, not {x.dtype}: give 'reference'")
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise InputError(f"backend 'triton' needs a CUDA tensor, and this one is on {x.device}: give 'reference'")
    return True


@cache
def _say_that_triton_is_absent() -> None:
    warnings.warn("triton is not installed: plain torch runs instead, slower (pip install triton)", stacklevel=4)
